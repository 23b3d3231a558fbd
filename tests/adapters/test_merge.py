"""Merging: the same outputs without the adapter, rounded once, and embeddings that stay what they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from peft import LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForImageTextToText, PreTrainedModel

from xrayexp.adapters.attach import attach_adapter
from xrayexp.adapters.config import AdapterSection
from xrayexp.adapters.merge import merge, require_mergeable
from xrayexp.config import config_dir, parse_section
from xrayexp.data.collate import EncodedSample, MicroBatch, pad
from xrayexp.errors import DataError, UserError
from xrayexp.models.loading import load_model

Load = Callable[..., PreTrainedModel]
METHODS = sorted(path.stem for path in (config_dir() / "adapter").glob("*.yaml") if path.stem != "none")
LANGUAGE = r".*language_model.*\.(q_proj|down_proj)"


@pytest.fixture(scope="module")
def adapted(compose: Callable[..., DictConfig]) -> Callable[..., PeftModel]:
    """`adapted("adapter=dora", ...)`: an adapter of that config on the unquantised model, moved as by training."""

    def attached(*overrides: str, dtype: torch.dtype = torch.float32) -> PeftModel:
        problems: list[str] = []
        section = parse_section(compose("quantization=none", *overrides), "adapter", AdapterSection, problems)
        assert section is not None, problems
        torch.manual_seed(0)
        device = torch.device("cpu")
        base = load_model("pkg://xrayexp/models/tiny", quantization=None, dtype=dtype, device=device)
        return disturbed(attach_adapter(base, section, total_steps=100))

    return attached


@pytest.fixture(scope="module")
def batch(samples: Sequence[EncodedSample]) -> MicroBatch:
    return pad(samples[:2], pad_token_id=0)


def disturbed(model: PeftModel) -> PeftModel:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def logits(model: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
    """Where there is no padding, [tokens, vocabulary]."""
    with torch.no_grad():
        out: torch.Tensor = model.eval()(**batch.inputs).logits
    return out[batch.inputs["attention_mask"].bool()]


@pytest.mark.parametrize("method", METHODS)
def test_the_merged_model_is_the_adapted_one(
    adapted: Callable[..., PeftModel], load_tiny: Load, batch: MicroBatch, method: str
) -> None:
    model = adapted(f"adapter={method}")
    expected = logits(model, batch)
    assert not torch.allclose(expected, logits(load_tiny(), batch), atol=0.1)
    require_mergeable(model)
    torch.testing.assert_close(logits(model, batch), expected, rtol=0, atol=0)  # the try has changed nothing
    merged = merge(model)
    torch.testing.assert_close(logits(merged, batch), expected, rtol=1e-4, atol=1e-3)
    assert not any(isinstance(module, BaseTunerLayer) for module in merged.modules())
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    assert merged.state_dict().keys() == load_tiny().state_dict().keys()
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_in_bfloat16_is_rounded_once(adapted: Callable[..., PeftModel], method: str) -> None:
    def half() -> Any:
        return adapted(f"adapter={method}", dtype=torch.bfloat16)

    exact = half().float().merge_and_unload()  # the same numbers with more digits
    merged = dict(merge(half()).named_parameters())
    for name, weight in exact.named_parameters():
        torch.testing.assert_close(merged[name], weight.to(torch.bfloat16), rtol=0, atol=0, msg=name)
    if method == "delora":  # what PEFT itself rounds several times
        rough = half().merge_and_unload().named_parameters()
        assert any((weight != merged[name]).any() for name, weight in rough)


WHOLE = "adapter.modules_to_save=[lm_head,embed_tokens]"
# What is adapted or trained whole, and whether head and embeddings are one matrix afterwards.
HEADS = [
    ((WHOLE, "adapter.ensure_weight_tying=true"), True),
    ((WHOLE,), False),
    (("adapter.modules_to_save=[lm_head]",), False),
    (("adapter.target='.*(q_proj|lm_head)'",), False),
    (("adapter=dora", "adapter.target='.*(q_proj|lm_head)'"), False),
    (("adapter.modules_to_save=[multi_modal_projector]",), True),
]


@pytest.mark.parametrize("overrides, tied", HEADS, ids=[" ".join(o) for o, _ in HEADS])
@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`", "ignore:.*ensure_weight_tying")
def test_head_and_embeddings_survive_saving(
    adapted: Callable[..., PeftModel], batch: MicroBatch, tmp_path: Path, overrides: tuple[str, ...], tied: bool
) -> None:
    model = adapted(*overrides)
    expected = logits(model, batch)
    merge(model).save_pretrained(tmp_path)
    loaded: Any = AutoModelForImageTextToText.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded, batch), expected, rtol=1e-4, atol=1e-3)
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied


@pytest.mark.parametrize(
    "config, reason",
    [
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "no layers"),
        (LoraConfig(task_type="CAUSAL_LM", target_modules=LANGUAGE, alora_invocation_tokens=[7]), "aLoRA"),
    ],
    ids=["prompt tuning", "activated LoRA"],
)
def test_what_cannot_be_merged_is_refused_with_the_reason(load_tiny: Load, config: PeftConfig, reason: str) -> None:
    model = get_peft_model(load_tiny(), config)
    assert isinstance(model, PeftModel)
    with pytest.raises(UserError, match=reason):
        require_mergeable(model)


def test_an_adapter_that_is_not_finite_is_refused(adapted: Callable[..., PeftModel]) -> None:
    model = adapted()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_B" in n).fill_(torch.nan)
    with pytest.raises(DataError, match="not finite"):
        merge(model)
