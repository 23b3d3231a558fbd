"""The layers of factored DoRA: put on, copied, merged, switched and saved as PEFT's own."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bitsandbytes.optim.adamw import AdamW8bit
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora.dora import DoraLinearLayer

from tests.adapters.dora_cases import BF16, CASE, KINDS, Case, error, lora_layer, require_equal
from xrayexp.adapters import dora
from xrayexp.adapters.dora import factor_dora, init_magnitude
from xrayexp.adapters.frozen import FrozenWeight


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("second", [{}, {"use_dora": False}])
def test_several_adapters_side_by_side(kind: str, second: dict[str, bool]) -> None:
    """Added later, active together, or in turn."""
    case = Case(**vars(CASE) | {"kind": kind, "bias": True})

    def grown(factored: bool) -> PeftModel:
        model = case.model(factored)
        torch.manual_seed(0)
        model.add_adapter("other", case.config(**second))
        case.move(model)
        return model

    model = grown(factored=True)
    for active in (["default"], ["other"], ["default", "other"]):
        stock = grown(factored=False)  # PEFT's DoRA on 8-bit layers fails in its second forward pass
        each: Any
        for each in (model, stock):
            each.base_model.set_adapter(active)
        require_equal(case.run(model), case.run(stock))


def test_an_adapter_can_be_added_to_an_8bit_layer_that_has_run() -> None:
    case = Case(**vars(CASE) | {"kind": "8bit"})
    model = case.model(factored=True)
    expected = case.run(model)
    model.add_adapter("other", case.config())
    require_equal(case.run(model), expected, y=1e-7, gradient=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_switched_off_merged_and_unmerged(kind: str) -> None:
    case = Case(**vars(CASE) | {"kind": kind, "bias": True})
    model, stock = case.model(factored=True), case.model(factored=False)
    x = case.x()
    with torch.no_grad():
        with model.disable_adapter(), stock.disable_adapter():
            torch.testing.assert_close(model(x), stock(x), rtol=0, atol=0)
        for step in ("merge_adapter", "unmerge_adapter"):
            for each in (model, stock):
                getattr(each, step)()
            assert error(model(x), stock(x)) < 1e-6, step


def test_a_norm_does_not_outlive_the_weight() -> None:
    """Merging in place, loading and moving all leave the same parameter with other numbers."""
    case = Case(**vars(CASE) | {"kind": "plain"})
    model = case.model(factored=True)
    base = lora_layer(model).get_base_layer()
    frozen = FrozenWeight(base)

    def right() -> bool:
        known = frozen.squared_row_norms()
        return bool(torch.allclose(known, base.weight.square().sum(dim=1)))

    model(case.x())
    assert frozen.squared_row_norms() is frozen.squared_row_norms()
    with torch.no_grad():
        model.merge_adapter()
        model(case.x())
        assert right()
        model.unmerge_adapter()
        assert right()
        base.load_state_dict({"weight": 2 * base.weight})
        assert right()
        base.weight.data = 3 * base.weight
        assert right()
        base.weight = torch.nn.Parameter(4 * base.weight, requires_grad=False)
        assert right()


OPTIMIZERS: list[Callable[[Any], torch.optim.Optimizer]] = [
    lambda p: torch.optim.AdamW(p, lr=0.05, fused=True),
    lambda p: AdamW8bit(p, lr=0.05),
    lambda p: torch.optim.SGD(p, lr=0.05),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_norm_follows_every_optimiser_step(make: Callable[[Any], torch.optim.Optimizer], kind: str) -> None:
    """Fused and bitsandbytes optimisers change the factors without bumping their version."""
    case = Case(inside=128, outside=64, rank=40, rows=30, seed=0, kind=kind)  # large enough for 8-bit optimiser states
    model = case.model(factored=True)
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    start = lora_layer(model).lora_A["default"].weight.detach().clone()
    for _ in range(3):
        case.run(model)
        optimizer.step()
        stock = case.model(factored=False)
        with torch.no_grad():
            for (name, ours), (other, theirs) in zip(model.named_parameters(), stock.named_parameters(), strict=True):
                assert name == other
                if ours.requires_grad:
                    theirs.copy_(ours)
        require_equal(case.run(model), case.run(stock))
    assert error(lora_layer(model).lora_A["default"].weight, start) > 0.01


def test_a_fresh_adapter_changes_nothing_in_bfloat16() -> None:
    """PEFT's magnitude is rounded to the weight's type."""
    case = Case(**vars(CASE) | {"dtype": BF16})
    net: Any = torch.nn.Sequential()
    net.add_module("layer", case.base())
    net.is_loaded_in_4bit = True
    before = net(case.x())
    model = get_peft_model(net, case.config())
    assert factor_dora(model) == 1
    magnitude = lora_layer(model).lora_magnitude_vector["default"].weight
    rounded = magnitude.detach().clone()
    init_magnitude(model)
    assert 1e-4 < (magnitude / rounded - 1).abs().max() < 4e-3
    with torch.autocast("cpu", BF16):
        torch.testing.assert_close(model(case.x()), before, rtol=0, atol=0)


def test_rows_of_zeros_stay_zeros() -> None:
    """In PEFT their 0 / 0 makes the whole output NaN."""
    case = Case(**vars(CASE) | {"kind": "plain"})
    net: Any = torch.nn.Sequential()
    net.add_module("layer", case.base())
    net.layer.weight[5] = 0
    model = get_peft_model(net, case.config())
    factor_dora(model)
    found = case.run(model)
    assert not found["y"][..., 5].any()
    assert all(tensor.isfinite().all() for tensor in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_copies_pickles_and_saved_files_are_complete(kind: str) -> None:
    case = Case(**vars(CASE) | {"kind": kind})
    model = case.model(factored=True)
    expected = case.run(model)
    twin = copy.deepcopy(model)
    require_equal(case.run(twin), expected, y=1e-7, gradient=1e-6)
    with torch.no_grad():
        lora_layer(twin).lora_B["default"].weight.mul_(2)
    require_equal(case.run(model), expected, y=1e-7, gradient=1e-6)
    assert pickle.loads(pickle.dumps(type(lora_layer(model)))) is type(lora_layer(model))
    stock = get_peft_model_state_dict(case.model(factored=False))
    ours = get_peft_model_state_dict(model)
    assert {n: (t.shape, t.dtype) for n, t in ours.items()} == {n: (t.shape, t.dtype) for n, t in stock.items()}


def test_the_layer_works_compiled() -> None:
    model = CASE.model(factored=True)
    expected = CASE.run(model)
    require_equal(CASE.run(model, call=torch.compile(model, backend="eager")), expected)


def test_hooks_of_the_base_layer_are_called(fused: list[int]) -> None:
    """Libraries that move weights about hang on them."""
    model = CASE.model(factored=True)
    expected = CASE.run(model)
    seen: list[Any] = []
    lora_layer(model).get_base_layer().register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    require_equal(CASE.run(model), expected)
    assert len(seen) == 1
    assert len(fused) == 1


def test_what_cannot_be_factored_stays_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    net: Any = torch.nn.Sequential()
    net.add_module("layer", torch.nn.Conv1d(4, 4, 1))
    with caplog.at_level(logging.WARNING, logger="xrayexp"):
        model = get_peft_model(net, LoraConfig(r=2, target_modules=["layer"], use_dora=True))
        assert factor_dora(model) == 0
    assert [record.getMessage() for record in caplog.records if "1 DoRA layers" in record.getMessage()]
    assert model(torch.randn(1, 4, 6)).shape == (1, 4, 6)


def test_plain_lora_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="xrayexp"):
        assert factor_dora(CASE.model(factored=False, use_dora=False)) == 0
    assert not caplog.records


def test_the_interface_of_peft_is_the_one_that_was_overridden() -> None:
    """A release of PEFT that changes it must be looked at."""
    parameters = list(inspect.signature(DoraLinearLayer.forward).parameters)
    assert parameters == ["self", "x", "lora_A", "lora_B", "scaling", "base_layer", "base_result", "adapter_name"]
    parent: Any
    for parent in dora._FACTORED:
        assert list(inspect.signature(parent.forward).parameters) == ["self", "x", "args", "kwargs"]
