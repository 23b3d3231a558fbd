"""Adapters: nothing at first, alone in being trained, and the same again after saving and loading."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from xrayexp.adapters.attach import (
    attach_adapter,
    base_model,
    load_adapter,
    restore_adapter,
    save_adapter,
    trainable_parameters,
)
from xrayexp.adapters.config import AdapterSection
from xrayexp.adapters.dora import factor_dora
from xrayexp.config import parse_section
from xrayexp.data.collate import EncodedSample, MicroBatch, ReportEncoder, pad
from xrayexp.errors import ConfigError, DataError
from xrayexp.models.loading import load_processor, resolve_pretrained
from xrayexp.tracking.summary import TrainingSummary
from xrayexp.training.loss import supervised_loss_sum

Load = Callable[..., PreTrainedModel]
Section = Callable[..., AdapterSection]
# Every method on the weights that it works on.
METHODS = [(method, quantization) for method in ("lora", "dora", "delora") for quantization in ("nf4", "int8", "none")]
WHOLE = ("adapter.modules_to_save=[lm_head,embed_tokens]", "adapter.ensure_weight_tying=true")


@pytest.fixture(scope="module")
def section(compose: Callable[..., DictConfig]) -> Section:
    def parsed(*overrides: str) -> AdapterSection:
        problems: list[str] = []
        adapter = parse_section(compose(*overrides), "adapter", AdapterSection, problems)
        assert adapter is not None
        assert not problems
        return adapter

    return parsed


@pytest.fixture(scope="module")
def batch(samples: Sequence[EncodedSample]) -> MicroBatch:
    return pad(samples[:2], pad_token_id=0)


def logits(model: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
    """Where there is no padding, [tokens, vocabulary]."""
    with torch.no_grad():
        out: torch.Tensor = model.eval()(**batch.inputs).logits
    return out[batch.inputs["attention_mask"].bool()]


def disturb(model: torch.nn.Module) -> None:
    """Moves everything that is trained, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("method, quantization", METHODS)
def test_a_new_adapter_changes_nothing(
    load_tiny: Load, section: Section, batch: MicroBatch, method: str, quantization: str
) -> None:
    model = load_tiny(quantization)
    before = logits(model, batch)
    after = logits(attach_adapter(model, section(f"adapter={method}")), batch)
    tolerance = 0 if method == "lora" else 1e-4  # the others divide and multiply by a norm
    torch.testing.assert_close(after, before, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method, quantization", METHODS)
@pytest.mark.parametrize("target", ["language", "language+vision"])
def test_the_adapter_alone_is_trained(
    load_tiny: Load, section: Section, batch: MicroBatch, method: str, quantization: str, target: str
) -> None:
    model = attach_adapter(load_tiny(quantization), section(f"adapter={method}", f"adapter.target={target}"))
    disturb(model)  # where a matrix is zero at first, the other gets no gradient
    supervised_loss_sum(base_model(model.train()), batch.inputs, batch.labels).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)  # DeLoRA's too: PEFT names them delora_
    assert any("vision_tower" in name for name in trained) == (target == "language+vision")
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained.values())
    assert all(p.dtype == torch.float32 for p in trained.values())
    counted, total = trainable_parameters(model)
    assert counted == sum(p.numel() for p in trained.values())
    assert counted < total / 2
    assert base_model(model) is model.get_base_model()


def test_rank_scale_and_dropout_reach_the_layers(load_tiny: Load, section: Section) -> None:
    chosen = section("adapter.r=3", "adapter.alpha=12", "adapter.dropout=0.25")
    model = attach_adapter(load_tiny(), chosen)
    ranks = {p.shape[0] for n, p in model.named_parameters() if "lora_A" in n}
    assert ranks == {3}
    layer = next(m for n, m in model.named_modules() if n.endswith("layers.0.self_attn.q_proj"))
    assert layer.scaling == {"default": 4.0}
    assert layer.lora_dropout["default"].p == 0.25


@pytest.mark.parametrize("method, quantization", METHODS)
def test_a_saved_adapter_is_the_same_again(
    load_tiny: Load, section: Section, batch: MicroBatch, encoder: ReportEncoder, tmp_path: Path,
    method: str, quantization: str,
) -> None:  # fmt: skip
    model = attach_adapter(load_tiny(quantization), section(f"adapter={method}"))
    plain = logits(model, batch)
    disturb(model)
    expected = logits(model, batch)
    assert not torch.allclose(expected, plain, atol=0.1)
    folder = tmp_path / "checkpoints" / "best"
    save_adapter(model, encoder.processor, folder)
    loaded = load_adapter(load_tiny(quantization), folder)
    torch.testing.assert_close(logits(loaded, batch), expected)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert size < 1.1 * 4 * trainable_parameters(model)[0] + 50_000, "more than the adapter was saved"


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside_it(
    load_tiny: Load, section: Section, batch: MicroBatch, encoder: ReportEncoder, tmp_path: Path
) -> None:
    model = attach_adapter(load_tiny(), section())
    folder = tmp_path / "best"
    save_adapter(model, encoder.processor, folder)
    (folder / "stale.txt").touch()
    disturb(model)
    save_adapter(model, encoder.processor, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert not (folder / "stale.txt").exists()
    torch.testing.assert_close(logits(load_adapter(load_tiny(), folder), batch), logits(model, batch))


def test_a_folder_without_adapter(load_tiny: Load, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"adapter_config\.json"):
        load_adapter(load_tiny(), tmp_path)


def test_whole_layers_are_trained_saved_and_stay_one_matrix(
    load_tiny: Load, section: Section, batch: MicroBatch, encoder: ReportEncoder, tmp_path: Path
) -> None:
    model = attach_adapter(load_tiny("nf4"), section(*WHOLE))
    base = base_model(model)

    def matrices(base: Any) -> tuple[torch.Tensor, torch.Tensor]:
        into, out = (module.modules_to_save["default"] for module in (base.get_input_embeddings(), base.lm_head))
        return into.weight, out.weight

    into, out = matrices(base)
    assert into.data_ptr() == out.data_ptr()
    assert into.requires_grad
    supervised_loss_sum(base.train(), batch.inputs, batch.labels).backward()
    assert into.grad is not None
    disturb(model)
    expected = logits(model, batch)
    save_adapter(model, encoder.processor, tmp_path / "best")
    loaded = load_adapter(load_tiny("nf4"), tmp_path / "best")
    torch.testing.assert_close(logits(loaded, batch), expected)
    again = matrices(base_model(loaded))
    assert again[0].data_ptr() == again[1].data_ptr()


def test_whole_layers_that_do_not_exist_are_refused(load_tiny: Load, section: Section) -> None:
    with pytest.raises(ConfigError, match=r"modules_to_save.*lm_haed"):
        attach_adapter(load_tiny(), section("adapter.modules_to_save=[lm_haed]"))


def test_a_method_for_plain_weights_is_refused_on_quantised_ones(load_tiny: Load, section: Section) -> None:
    for quantization in ("nf4", "int8"):
        with pytest.raises(ConfigError, match="quantization=none"):
            attach_adapter(load_tiny(quantization), section("adapter.quantized_base=false"))


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_dora_computes_its_norms_from_the_factors(
    load_tiny: Load, section: Section, encoder: ReportEncoder, tmp_path: Path, quantization: str
) -> None:
    """In a new and in a loaded model; a magnitude is the norm itself at first."""
    model = attach_adapter(load_tiny(quantization), section("adapter=dora"))
    save_adapter(model, encoder.processor, tmp_path / "best")
    for each in (model, load_adapter(load_tiny(quantization), tmp_path / "best")):
        layers = [module for module in each.modules() if hasattr(module, "lora_magnitude_vector")]
        assert layers
        assert all(type(layer).__name__.startswith("Factored") for layer in layers)
    assert factor_dora(model) == 0


PROGRAM = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

base, adapter, inputs, out = sys.argv[1:]
torch.set_num_threads(1)
nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                         bnb_4bit_compute_dtype=torch.float32)
model = AutoModelForImageTextToText.from_pretrained(base, quantization_config=nf4, dtype=torch.float32)
for module in model.modules():
    if hasattr(module, "support_avx512bf16_for_cpu"):
        module.support_avx512bf16_for_cpu = False
model = PeftModel.from_pretrained(model, adapter).eval()
AutoProcessor.from_pretrained(adapter)
with torch.no_grad():
    torch.save(model(**torch.load(inputs)).logits, out)
assert not any(name.partition(".")[0] == "xrayexp" for name in sys.modules)
"""


def test_a_trained_adapter_loads_without_this_package(
    trained_run: TrainingSummary, load_tiny: Load, batch: MicroBatch, tmp_path: Path
) -> None:
    folder = trained_run.folder / "checkpoints" / "best"
    inputs, out = tmp_path / "inputs.pt", tmp_path / "logits.pt"
    torch.save(batch.inputs, inputs)
    pretrained = resolve_pretrained("pkg://xrayexp/models/tiny")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [sys.executable, "-c", PROGRAM, pretrained, str(folder), str(inputs), str(out)]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = batch.inputs["attention_mask"].bool()
    here = load_adapter(load_tiny("nf4"), folder)
    torch.testing.assert_close(torch.load(out)[there], logits(here, batch))


def test_a_trained_adapter_is_a_plain_peft_folder_with_its_processor(trained_run: TrainingSummary) -> None:
    for name in ("best", "last"):
        folder = trained_run.folder / "checkpoints" / name
        files = {path.name for path in folder.iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors"} <= files
        assert {"processor_config.json", "tokenizer.json", "chat_template.jinja"} <= files
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["peft_type"] == "LORA"
        assert config["inference_mode"] is True


def test_an_adapter_of_another_base_is_refused(load_tiny: Load, section: Section, tmp_path: Path) -> None:
    """PEFT only warns, and would go on with an adapter that changes nothing."""
    adapted = attach_adapter(load_tiny("none"), section())
    save_adapter(adapted, load_processor("pkg://xrayexp/models/tiny"), tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    renamed = {name.replace("language_model", "decoder"): tensor for name, tensor in load_file(weights).items()}
    save_file(renamed, weights)
    with pytest.raises(DataError, match="another base model"):
        load_adapter(load_tiny("none"), tmp_path / "adapter")
    with pytest.raises(DataError, match="another base model"):
        restore_adapter(adapted, tmp_path / "adapter")


def test_restoring_brings_the_saved_weights_back(
    load_tiny: Load, section: Section, batch: MicroBatch, tmp_path: Path
) -> None:
    adapted = attach_adapter(load_tiny("none"), section())
    disturb(adapted)
    before = logits(adapted, batch)
    save_adapter(adapted, load_processor("pkg://xrayexp/models/tiny"), tmp_path / "adapter")
    disturb(adapted)
    assert not torch.allclose(logits(adapted, batch), before)
    restore_adapter(adapted, tmp_path / "adapter")
    torch.testing.assert_close(logits(adapted, batch), before)
