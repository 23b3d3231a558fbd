"""Fused LoRA layers compute what PEFT's do, and go PEFT's way wherever they cannot."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model_state_dict

from tests.adapters.dora_cases import BF16, CASES, FEW, Case, lora_layer, require_equal
from xrayexp.adapters.lora import LoraFunction, fuse_lora

CASE = Case(inside=128, outside=192, rank=8, rows=20, seed=3, bias=True)
PLAIN = {"use_dora": False}


def lora(case: Case, fused: bool, **options: Any) -> PeftModel:
    model = case.model(factored=False, **PLAIN | options)
    if fused:
        assert fuse_lora(model) == 1
    return model


@contextmanager
def counted() -> Iterator[list[int]]:
    """How often the fused function runs."""
    calls: list[int] = []
    apply = LoraFunction.apply

    def counting(*args: Any) -> Any:
        calls.append(1)
        return apply(*args)  # type: ignore[no-untyped-call]

    with patch.object(LoraFunction, "apply", counting):
        yield calls


@FEW
@given(case=CASES.filter(lambda case: case.kind != "8bit"), autocast=st.booleans())
def test_output_and_gradients_are_pefts(case: Case, autocast: bool) -> None:
    case = Case(**vars(case) | {"dtype": BF16 if autocast else torch.float32})
    with counted() as calls:
        found = case.run(lora(case, fused=True), autocast)
    assert len(calls) == 1
    expected = case.run(lora(case, fused=False), autocast)
    # In bfloat16 PEFT rounds W x and the sum, this function the sum alone.
    require_equal(found, expected, *((1e-2, 1e-2) if autocast else (1e-6, 1e-4)))


def test_every_other_way_is_pefts() -> None:
    dropped = Case(**vars(CASE) | {"dropout": 0.5})
    cases: list[tuple[Case, Any]] = [(CASE, {"use_dora": True}), (dropped, {}), (CASE, {"lora_bias": True})]
    for case, options in cases:
        model, stock = (case.model(factored=False, **PLAIN | options) for _ in range(2))
        fuse_lora(model)
        with counted() as calls:
            found = case.run(model)
        require_equal(found, case.run(stock), y=0.0 + 1e-9, gradient=1e-9)
        assert not calls, options


def test_hooks_other_types_and_generation_go_pefts_way() -> None:
    hooked = lora(CASE, fused=True)
    lora_layer(hooked).base_layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    stock = lora(CASE, fused=False)
    lora_layer(stock).base_layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    plain, mixed = lora(CASE, fused=True), Case(**vars(CASE) | {"dtype": BF16})
    with counted() as calls:
        require_equal(CASE.run(hooked), CASE.run(stock), y=1e-9, gradient=1e-9)
        mixed.run(lora(mixed, fused=True))  # activations in bfloat16, the adapter in float32
        with torch.no_grad():
            plain(CASE.x())
    assert not calls


def test_switched_off_merged_and_with_two_adapters() -> None:
    model, stock = lora(CASE, fused=True), lora(CASE, fused=False)
    for each in (model, stock):
        torch.manual_seed(0)
        each.add_adapter("other", CASE.config(**PLAIN))
        CASE.move(each)
    for active in (["default"], ["other"], ["default", "other"]):
        for each in (model, stock):
            each.base_model.set_adapter(active)  # type: ignore[operator]
        require_equal(CASE.run(model), CASE.run(stock))
    with model.disable_adapter(), stock.disable_adapter():
        assert torch.equal(model(CASE.x()), stock(CASE.x()))
    for each in (model, stock):
        each.base_model.set_adapter(["default"])  # type: ignore[operator]
        each.merge_adapter()
    assert torch.allclose(model(CASE.x()), stock(CASE.x()))


def test_only_what_is_asked_for_is_computed() -> None:
    model = lora(CASE, fused=True)
    lora_layer(model).lora_A["default"].weight.requires_grad_(False)
    x = CASE.x()
    with counted() as calls:
        model(x).sum().backward()
    assert len(calls) == 1
    assert x.grad is None
    assert lora_layer(model).lora_A["default"].weight.grad is None
    assert lora_layer(model).lora_B["default"].weight.grad is not None


def test_saved_copied_and_pickled_as_pefts() -> None:
    model, stock = lora(CASE, fused=True), lora(CASE, fused=False)
    states = get_peft_model_state_dict(model), get_peft_model_state_dict(stock)
    assert list(states[0]) == list(states[1])
    expected = CASE.run(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(lora_layer(other)) is type(lora_layer(model))
        require_equal(CASE.run(other), expected, y=1e-9, gradient=1e-9)
