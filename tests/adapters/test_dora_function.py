"""Factored DoRA computes what PEFT's does, in every precision, without the large temporaries."""

from __future__ import annotations

import random
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from hypothesis import given
from peft import PeftModel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from tests.adapters.dora_cases import BF16, CASE, CASES, FEW, FP32, KINDS, Case, error, lora_layer, require_equal
from xrayexp.adapters.dora_function import weight_norm
from xrayexp.adapters.frozen import FrozenWeight


@FEW
@given(CASES)
def test_in_float32_it_is_the_dora_of_peft(case: Case) -> None:
    require_equal(case.run(case.model(factored=True)), case.run(case.model(factored=False)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_function_runs_where_it_can(fused: list[int], kind: str) -> None:
    case = Case(**vars(CASE) | {"kind": kind})
    case.run(case.model(factored=True))
    assert fused == ([] if kind == "8bit" else [2 * case.rows])


def reference(case: Case, model: PeftModel) -> dict[str, Tensor]:
    """DoRA in float64 on the numbers that the 4-bit weight stands for; the norm is a constant."""
    layer = lora_layer(model)
    base = layer.get_base_layer()
    w = bnb.functional.dequantize_4bit(base.weight.data, base.weight.quant_state).double()
    leaves = {
        "x": case.x(),
        "lora_A": layer.lora_A["default"].weight,
        "lora_B": layer.lora_B["default"].weight,
        "lora_magnitude_vector": layer.lora_magnitude_vector["default"].weight,
    }
    leaves = {name: tensor.detach().double().requires_grad_() for name, tensor in leaves.items()}
    full = w + layer.scaling["default"] * leaves["lora_B"] @ leaves["lora_A"]
    ratio = leaves["lora_magnitude_vector"] / full.detach().norm(dim=1)
    y = leaves["x"] @ (ratio[:, None] * full).t()
    y.backward(case.random(*y.shape, stream=3).double())
    return {"y": y.detach()} | {name: leaf.grad for name, leaf in leaves.items()}


def test_under_autocast_it_is_no_further_from_float64_than_peft() -> None:
    """On average over shapes: a single draw of rounding errors may favour either."""
    draw = random.Random(0)
    errors: dict[str, list[tuple[float, float]]] = {}
    for seed in range(40):
        inside, outside = (32 * draw.randint(1, 8) for _ in range(2))
        case = Case(inside, outside, rank=draw.randint(1, 24), rows=draw.randint(20, 60), seed=seed, dtype=BF16)
        model = case.model(factored=True)
        ours, theirs = case.run(model, autocast=True), case.run(case.model(factored=False), autocast=True)
        for name, expected in reference(case, model).items():
            assert ours[name].dtype == theirs[name].dtype == (BF16 if name in {"x", "y"} else FP32)
            errors.setdefault(name, []).append((error(ours[name], expected), error(theirs[name], expected)))
    assert set(errors) == {"y", "x", "lora_A", "lora_B", "lora_magnitude_vector"}
    for name, pairs in errors.items():
        here, there = (sum(column) for column in zip(*pairs, strict=True))
        assert here <= 1.02 * there, name
        assert all(one <= 1.3 * other + 3e-4 for one, other in pairs), name


def test_bfloat16_adapters_without_autocast(fused: list[int]) -> None:
    case = Case(**vars(CASE) | {"dtype": BF16})
    models = [case.model(factored).to(BF16) for factored in (True, False)]
    require_equal(case.run(models[0]), case.run(models[1]), y=1e-2, gradient=1e-2)
    assert fused == [2 * case.rows]


@pytest.mark.parametrize("kind", KINDS)
def test_float32_adapters_on_bfloat16_weights_without_autocast(fused: list[int], kind: str) -> None:
    case = Case(**vars(CASE) | {"dtype": BF16, "kind": kind})
    require_equal(case.run(case.model(True)), case.run(case.model(False)), y=1e-2, gradient=1e-2)
    assert not fused


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_gradient_checkpointing_changes_nothing(fused: list[int], reentrant: bool, autocast: bool) -> None:
    case = Case(**vars(CASE) | {"dtype": BF16 if autocast else FP32, "bias": True})
    model = case.model(factored=True)
    plain = case.run(model, autocast)
    again = case.run(model, autocast, lambda x: checkpoint(model, x, use_reentrant=reentrant))
    for name, tensor in plain.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)
    assert len(fused) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_that_of_peft(fused: list[int], kind: str) -> None:
    case = Case(**vars(CASE) | {"kind": kind, "dropout": 0.3, "bias": True})
    model = case.model(factored=True)
    require_equal(case.run(model), case.run(case.model(factored=False)))
    assert not fused
    case.run(model.eval())
    assert len(fused) == (kind != "8bit")  # nothing is dropped


class Allocations(TorchDispatchMode):
    """The sizes of all new tensors, in bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {
            t.untyped_storage().data_ptr()
            for t in torch.utils._pytree.tree_leaves((args, kwargs))
            if isinstance(t, Tensor)
        }
        out = func(*args, **kwargs or {})
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.bytes.append(tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("inside, outside", [(512, 1024), (1024, 512)])
@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_nothing_is_larger_than_the_dequantised_weight(inside: int, outside: int, dtype: torch.dtype) -> None:
    """And there is one of it in the forward and one in the backward pass."""
    case = Case(inside, outside, rank=16, rows=16, seed=0, dtype=dtype)
    size = inside * outside * dtype.itemsize
    models = {factored: case.model(factored) for factored in (True, False)}
    largest = {}
    for factored, model in models.items():
        case.run(model, autocast=dtype == BF16)  # the norms of the frozen weight are there
        with Allocations() as allocations:
            case.run(model, autocast=dtype == BF16)
        largest[factored] = max(allocations.bytes)
        if factored:
            assert sum(count == size for count in allocations.bytes) == 2
    assert largest[True] == size
    assert largest[False] > size or inside < outside  # PEFT's identity is [in, in]


@FEW
@given(CASES)
def test_the_norm_is_that_of_the_sum(case: Case) -> None:
    layer = lora_layer(case.model(factored=False))
    frozen = FrozenWeight.of(layer.get_base_layer())
    assert frozen is not None
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (frozen.dense().double() + 2.5 * b.double() @ a.double()).norm(dim=1)
    torch.testing.assert_close(weight_norm(frozen, a, b, 2.5).double(), expected, rtol=2e-6, atol=0)
