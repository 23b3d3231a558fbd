"""Every method of conf/adapter: nothing at first, alone in being trained, the same again however it is stored."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from transformers import PreTrainedModel

from tests.adapters.family import FIRST_LAYERS, METHODS, STEPS, disturb, logits
from xrayexp.adapters.attach import (
    adapted_layers,
    adapter_parameters,
    attach_adapter,
    base_model,
    load_adapter,
    restore_adapter,
    save_adapter,
)
from xrayexp.adapters.config import AdapterSection
from xrayexp.adapters.targets import target_modules
from xrayexp.data.collate import MicroBatch, ReportEncoder
from xrayexp.errors import ConfigError
from xrayexp.models.loading import resolve_pretrained
from xrayexp.training.loss import supervised_loss_sum

Attached = Callable[..., PeftModel]
Fresh = Callable[..., PreTrainedModel]
Section = Callable[..., AdapterSection]

every_method = pytest.mark.parametrize("method", METHODS)
# Types of the weights, and of everything else under autocast or without.
SETTINGS = [
    pytest.param("nf4", torch.float32, False, id="nf4, 32-true"),
    pytest.param("nf4", torch.bfloat16, True, id="nf4, bf16-mixed"),
    pytest.param("int8", torch.float32, False, id="int8, 32-true"),
    pytest.param("int8", torch.bfloat16, True, id="int8, bf16-mixed", marks=pytest.mark.slow),
]


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference."""
    return float((one - other).abs().max())


def train_step(model: PeftModel, batch: MicroBatch, *, autocast: bool = False) -> None:
    """One step of AdamW, with its gradients left in place."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = supervised_loss_sum(base_model(model.train()), batch.inputs, batch.labels)
    (loss / 100).backward()
    optimizer.step()


def works(model: PreTrainedModel, section: AdapterSection, batch: MicroBatch, folder: Path, autocast: bool) -> None:
    """Attaches, trains a step, saves, loads; whatever goes wrong is raised."""
    again = copy.deepcopy(model)
    adapted = attach_adapter(model, section, STEPS)
    disturb(adapted, 0.01)  # where a matrix is zero at first, the other gets no gradient
    train_step(adapted, batch, autocast=autocast)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
            assert parameter.isfinite().all(), name
    out = logits(adapted, batch, autocast=autocast)
    assert out.isfinite().all()
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    torch.testing.assert_close(logits(load_adapter(again, folder), batch, autocast=autocast), out)


@every_method
@pytest.mark.parametrize("quantization, dtype, autocast", SETTINGS)
def test_the_config_says_what_works_on_quantised_weights(
    fresh: Fresh, section: Section, batch: MicroBatch, tmp_path: Path, method: str, quantization: str,
    dtype: torch.dtype, autocast: bool,
) -> None:  # fmt: skip
    """Not from memory: a method that is said to work is tried, and so is one that is said not to."""
    said = section(f"adapter={method}", FIRST_LAYERS)
    tried = replace(said, quantized_base=True)
    if said.quantized_base:
        works(fresh(quantization, dtype), tried, batch, tmp_path, autocast)
        return
    with pytest.raises((RuntimeError, AssertionError)):
        works(fresh(quantization, dtype), tried, batch, tmp_path, autocast)
    with pytest.raises(ConfigError, match="quantization=none") as refused:
        attach_adapter(fresh(quantization, dtype), said, STEPS)
    assert said.reason in str(refused.value)
    assert section(f"adapter={said.instead}").quantized_base, "the alternative must work"


def usable(section: Section, method: str) -> str:
    """The weights that the method is tried on: quantised ones wherever it can."""
    return "nf4" if section(f"adapter={method}").quantized_base else "none"


@every_method
def test_a_new_adapter_changes_nothing(
    fresh: Fresh, attached: Attached, section: Section, batch: MicroBatch, method: str
) -> None:
    quantization = usable(section, method)
    before = logits(fresh(quantization), batch)
    assert far(logits(attached(method, quantization=quantization), batch), before) <= 1e-4


@every_method
def test_a_new_adapter_changes_bfloat16_no_more_than_its_rounding(
    fresh: Fresh, attached: Attached, batch: MicroBatch, method: str
) -> None:
    exact = logits(fresh(), batch)
    before = logits(fresh("none", torch.bfloat16), batch, autocast=True)
    after = logits(attached(method, dtype=torch.bfloat16), batch, autocast=True)
    assert (after - before).norm() <= (before - exact).norm()


@every_method
def test_the_adapter_alone_is_trained(attached: Attached, section: Section, batch: MicroBatch, method: str) -> None:
    model = attached(method, quantization=usable(section, method))
    prefix: Any = model.base_model.prefix
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(f".{prefix}" in name for name in trained)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    kept = adapter_parameters(model)
    assert trained <= set(kept)
    assert all(any(f".{part}." in name for part in section(f"adapter={method}").frozen) for name in set(kept) - trained
               if "w_norm" not in name)  # fmt: skip
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    disturb(model, 0.01)
    start = {name: before[name] if name not in trained else p.detach().clone() for name, p in model.named_parameters()}
    train_step(model, batch)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    assert moved == trained


@every_method
def test_a_saved_adapter_is_the_same_again(
    fresh: Fresh, attached: Attached, section: Section, batch: MicroBatch, encoder: ReportEncoder, tmp_path: Path,
    method: str,
) -> None:  # fmt: skip
    quantization = usable(section, method)
    model = attached(method, quantization=quantization)
    disturb(model)
    expected = logits(model, batch)
    assert far(expected, logits(fresh(quantization), batch)) > 0.01
    save_adapter(model, encoder.processor, tmp_path / "best")
    loaded = load_adapter(fresh(quantization), tmp_path / "best")
    torch.testing.assert_close(logits(loaded, batch), expected)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    disturb(model, 0.1)
    assert far(logits(model, batch), expected) > 0.01
    restore_adapter(model, tmp_path / "best")
    torch.testing.assert_close(logits(model, batch), expected)


@every_method
def test_merging_changes_nothing(attached: Attached, batch: MicroBatch, method: str) -> None:
    model = attached(method)
    disturb(model)
    expected = logits(model, batch)
    merged: Any = model.merge_and_unload()
    assert not any(isinstance(module, BaseTunerLayer) for module in merged.modules())
    torch.testing.assert_close(logits(merged, batch), expected, rtol=1e-4, atol=1e-3)


@every_method
def test_merging_into_bfloat16_rounds_and_no_more(attached: Attached, batch: MicroBatch, method: str) -> None:
    """Against the same adapter on the same weights, computed in float32."""
    model = attached(method, dtype=torch.bfloat16)
    disturb(model)
    live = logits(model, batch, autocast=True)
    exact = logits(copy.deepcopy(model).float(), batch)
    merged: Any = model.merge_and_unload()
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}
    assert (logits(merged, batch) - exact).norm() <= 2 * (live - exact).norm() + 0.01 * exact.norm()


@every_method
def test_two_adapters_side_by_side(
    attached: Attached, fresh: Fresh, section: Section, batch: MicroBatch, tmp_path: Path, method: str
) -> None:
    quantization = usable(section, method)
    alone = {}
    for name, size in (("one", 0.02), ("two", 0.05)):
        model = attached(method, quantization=quantization)
        disturb(model, size)
        alone[name] = logits(model, batch)
        model.save_pretrained(str(tmp_path / name), save_embedding_layers=False)
    both = load_adapter(fresh(quantization), tmp_path / "one")
    both.load_adapter(str(tmp_path / "two"), "two")
    torch.testing.assert_close(logits(both, batch), alone["one"])
    both.set_adapter("two")
    torch.testing.assert_close(logits(both, batch), alone["two"])
    both.set_adapter("default")
    torch.testing.assert_close(logits(both, batch), alone["one"])
    with both.disable_adapter():
        torch.testing.assert_close(logits(both, batch), logits(fresh(quantization), batch))


@every_method
def test_a_copy_is_independent(attached: Attached, section: Section, batch: MicroBatch, method: str) -> None:
    model = attached(method, quantization=usable(section, method))
    disturb(model)
    expected = logits(model, batch)
    other = copy.deepcopy(model)
    torch.testing.assert_close(logits(other, batch), expected)
    disturb(other, 0.1)
    train_step(other, batch)
    torch.testing.assert_close(logits(model, batch), expected)
    assert far(logits(other, batch), expected) > 0.01


# --- files ---


def plain(section: AdapterSection, model: PreTrainedModel) -> PeftModel:
    """The same adapter as PEFT alone makes it."""
    phases = {name: int(share * STEPS) for name, share in (section.phases or {}).items()}
    config = instantiate(
        section.peft,
        target_modules=target_modules(model, section.target),
        task_type="CAUSAL_LM",
        modules_to_save=section.modules_to_save,
        **phases,
        _convert_="all",
    )
    adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)
    return adapted


@every_method
def test_files_are_those_of_plain_peft(
    attached: Attached, fresh: Fresh, section: Section, encoder: ReportEncoder, tmp_path: Path, method: str
) -> None:
    save_adapter(attached(method), encoder.processor, tmp_path / "here")
    plain(section(f"adapter={method}", FIRST_LAYERS), fresh()).save_pretrained(
        str(tmp_path / "peft"), save_embedding_layers=False
    )
    tensors = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("here", "peft")]
    kinds = [{name: (tensor.shape, tensor.dtype) for name, tensor in given.items()} for given in tensors]
    assert kinds[0] == kinds[1]
    configs = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("here", "peft")]
    assert configs[0] == configs[1]


PROGRAM = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

base, inputs, out, *adapters = sys.argv[1:]
torch.set_num_threads(1)
inputs, found = torch.load(inputs), {}
for adapter in adapters:
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        found[adapter] = PeftModel.from_pretrained(model, adapter).eval()(**inputs).logits
torch.save(found, out)
assert not any(name.partition(".")[0] == "xrayexp" for name in sys.modules)
"""


def test_plain_peft_loads_every_file(
    attached: Attached, batch: MicroBatch, encoder: ReportEncoder, tmp_path: Path
) -> None:
    """In a process that knows nothing of this package; the projector too."""
    expected = {}
    for method in [*METHODS, "none"]:
        model = attached(method, f"adapter.train_projector={str(method in ('none', 'lora')).lower()}")
        disturb(model)
        expected[str(tmp_path / method)] = logits(model, batch)
        save_adapter(model, encoder.processor, tmp_path / method)
    torch.save(batch.inputs, tmp_path / "inputs.pt")
    pretrained = resolve_pretrained("pkg://xrayexp/models/tiny")
    arguments = [pretrained, str(tmp_path / "inputs.pt"), str(tmp_path / "out.pt"), *expected]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "out.pt")
    there = batch.inputs["attention_mask"].bool()
    for folder, out in expected.items():
        assert far(found[folder][there], out) < 1e-4, folder


def test_the_kinds_of_layers_are_counted(attached: Attached) -> None:
    assert adapted_layers(attached("vera", "adapter.target=attention")) == "3 k_proj, 3 o_proj, 3 q_proj, 3 v_proj"
    whole = attached("miss", "adapter.target=attention", "adapter.train_projector=true")
    assert adapted_layers(whole) == "3 k_proj, 3 o_proj, 3 q_proj, 3 v_proj, multi_modal_projector whole"
    assert adapted_layers(attached("none", "adapter.train_projector=true")) == "multi_modal_projector whole"
