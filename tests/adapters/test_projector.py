"""The projector trained whole: in float32 on whatever weights, and again after saving and loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import PreTrainedModel

from tests.adapters.family import disturb, logits
from xrayexp.adapters.attach import attach_adapter, base_model, load_adapter, save_adapter
from xrayexp.adapters.config import AdapterSection
from xrayexp.data.collate import MicroBatch, ReportEncoder
from xrayexp.errors import ConfigError
from xrayexp.training.loss import supervised_loss_sum

Attached = Callable[..., PeftModel]
WEIGHT = "multi_modal_projector.mm_input_projection_weight"
NORM = "multi_modal_projector.mm_soft_emb_norm.weight"


@pytest.mark.parametrize("method", ["none", "dora"])
def test_the_projector_is_trained_in_float32(attached: Attached, batch: MicroBatch, method: str) -> None:
    model = attached(method, "adapter.train_projector=true", quantization="nf4", dtype=torch.bfloat16)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad and "multi_modal_projector" in n}
    assert {name.rpartition(".default.")[2] for name in trained} == {name.partition(".")[2] for name in (WEIGHT, NORM)}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        supervised_loss_sum(base_model(model.train()), batch.inputs, batch.labels).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained.values())
    others = [n for n, p in model.named_parameters() if p.requires_grad and n not in trained]
    assert bool(others) == (method == "dora")


@pytest.mark.parametrize("autocast", [True, False])
def test_small_updates_are_not_rounded_away(
    attached: Attached, fresh: Callable[..., PreTrainedModel], batch: MicroBatch, encoder: ReportEncoder,
    tmp_path: Path, autocast: bool,
) -> None:  # fmt: skip
    """A change that bfloat16 cannot hold is in the file, and in the model that loads it."""
    model = attached("none", "adapter.train_projector=true", dtype=torch.bfloat16)
    [weight] = [p for name, p in model.named_parameters() if p.requires_grad and name.endswith("projection_weight")]
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1 + 2**-12)
    assert torch.equal(weight.bfloat16(), before.bfloat16())
    out = logits(model, batch, autocast=autocast)
    save_adapter(model, encoder.processor, tmp_path / "best")
    stored = load_file(tmp_path / "best" / "adapter_model.safetensors")
    assert {name.removeprefix("base_model.model.model."): tensor.dtype for name, tensor in stored.items()} == {
        WEIGHT: torch.float32, NORM: torch.float32,
    }  # fmt: skip
    assert not torch.equal(stored[f"base_model.model.model.{WEIGHT}"], before)
    loaded = load_adapter(fresh("none", torch.bfloat16), tmp_path / "best")
    [again] = [p for name, p in loaded.named_parameters() if name.endswith("default.mm_input_projection_weight")]
    assert torch.equal(again, weight)
    assert torch.equal(logits(loaded, batch, autocast=autocast), out)


def test_it_is_merged_with_the_adapter(attached: Attached, batch: MicroBatch) -> None:
    model = attached("lora", "adapter.train_projector=true")
    disturb(model)
    expected = logits(model, batch)
    merged: Any = model.merge_and_unload()
    assert not any("modules_to_save" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(logits(merged, batch), expected, rtol=1e-4, atol=1e-3)


def test_a_model_without_projector_is_refused(
    fresh: Callable[..., PreTrainedModel], section: Callable[..., AdapterSection]
) -> None:
    text: Any = fresh().model.language_model
    chosen = section("adapter.train_projector=true", "adapter.target=.*q_proj")
    with pytest.raises(ConfigError, match="no module 'multi_modal_projector'"):
        attach_adapter(text, chosen)
