"""Factored DoRA is PEFT's DoRA: the same numbers, the same files, without the large temporaries."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.nn.modules import Int8Params, Linear4bit, Linear8bitLt, Params4bit
from bitsandbytes.optim.adamw import AdamW8bit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from xrayexp.adapters import dora
from xrayexp.adapters.dora import factor_dora, init_magnitude
from xrayexp.adapters.dora_function import DoraFunction, weight_norm
from xrayexp.adapters.frozen import FrozenWeight

KINDS = ("4bit", "8bit", "plain")
BF16, FP32, FP64 = torch.bfloat16, torch.float32, torch.float64


@dataclass(frozen=True)
class Case:
    """One layer with an adapter that is no longer at its start, and what goes in and comes back."""

    inside: int
    outside: int
    rank: int
    rows: int
    seed: int
    kind: str = "4bit"
    bias: bool = False
    dropout: float = 0.0
    rslora: bool = False
    dtype: torch.dtype = FP32

    def random(self, *shape: int, stream: int, dtype: torch.dtype | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + stream)
        return torch.randn(shape, generator=generator).to(dtype or self.dtype)

    def base(self) -> Any:
        weight = (0.05 * self.random(self.outside, self.inside, stream=0, dtype=FP32)).to(self.dtype)
        bias = self.random(self.outside, stream=1) if self.bias else None
        layer: Any
        if self.kind == "4bit":
            layer = Linear4bit(self.inside, self.outside, bias=self.bias, compute_dtype=self.dtype, quant_type="nf4")
            layer.weight = Params4bit(weight, requires_grad=False, quant_type="nf4")
            layer.support_avx512bf16_for_cpu = False
        elif self.kind == "8bit":
            layer = Linear8bitLt(self.inside, self.outside, bias=self.bias, has_fp16_weights=False)
            layer.weight = Int8Params(weight, requires_grad=False)
        else:
            layer = torch.nn.Linear(self.inside, self.outside, bias=self.bias)
            layer.weight = torch.nn.Parameter(weight)
        if bias is not None:
            layer.bias = torch.nn.Parameter(bias)
        return layer.to("cpu").requires_grad_(False)

    def config(self, **options: Any) -> LoraConfig:
        return LoraConfig(
            r=self.rank, lora_alpha=8, target_modules=["layer"], lora_dropout=self.dropout,
            use_rslora=self.rslora, **{"use_dora": True} | options,
        )  # fmt: skip

    def model(self, factored: bool, **options: Any) -> PeftModel:
        net: Any = torch.nn.Sequential()
        net.add_module("layer", self.base())
        net.is_loaded_in_4bit = self.kind == "4bit"
        net.is_loaded_in_8bit = self.kind == "8bit"
        torch.manual_seed(self.seed)  # for A
        model = get_peft_model(net, self.config(**options))
        self.move(model)
        if factored:
            assert factor_dora(model) == 1
        return model

    def move(self, model: torch.nn.Module) -> None:
        """Takes the adapter away from its start: B of B A's size, magnitudes by up to tens of per cent."""
        layer = lora_layer(model)
        with torch.no_grad():
            for number, name in enumerate(layer.lora_B):
                b = layer.lora_B[name].weight
                b.copy_(0.1 * self.random(*b.shape, stream=10 + number))
                if name in layer.lora_magnitude_vector:
                    m = layer.lora_magnitude_vector[name].weight
                    m.mul_(1 + 0.1 * self.random(*m.shape, stream=20 + number).clamp(-3, 3))

    def x(self) -> Tensor:
        return self.random(2, self.rows, self.inside, stream=2)

    def run(self, model: torch.nn.Module, autocast: bool = False, call: Any = None) -> dict[str, Tensor]:
        """Output and gradients."""
        x = self.x().requires_grad_()
        model.zero_grad()
        torch.manual_seed(self.seed)  # for dropout
        with torch.autocast("cpu", BF16, enabled=autocast):
            y = (model if call is None else call)(x)
        y.backward(self.random(*y.shape, stream=3).to(y.dtype))
        gradients = {name.split(".")[-3]: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert x.grad is not None
        return {"y": y.detach(), "x": x.grad} | gradients


CASES = st.builds(
    Case,
    inside=st.integers(1, 6).map(lambda n: 32 * n),
    outside=st.integers(1, 6).map(lambda n: 32 * n),
    rank=st.integers(1, 24),
    rows=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    bias=st.booleans(),
    rslora=st.booleans(),
)
FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CASE = Case(inside=128, outside=192, rank=8, rows=20, seed=3)


def lora_layer(model: torch.nn.Module) -> Any:
    [layer] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return layer


def error(found: Tensor, expected: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    found, expected = found.detach(), expected.detach()
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def require_equal(
    found: dict[str, Tensor], expected: dict[str, Tensor], y: float = 1e-6, gradient: float = 1e-4
) -> None:
    assert set(found) == set(expected) >= {"y", "x", "lora_A", "lora_B"}
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert error(found[name], tensor) < (y if name == "y" else gradient), name


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry, the number of rows, with each call of the fused function."""
    calls: list[int] = []
    apply: Any = DoraFunction.apply

    def counted(x: Tensor, *rest: Any) -> Any:
        calls.append(len(x))
        return apply(x, *rest)

    monkeypatch.setattr(DoraFunction, "apply", counted)
    return calls


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


@FEW
@given(CASES)
def test_the_norm_is_that_of_the_sum(case: Case) -> None:
    layer = lora_layer(case.model(factored=False))
    frozen = FrozenWeight.of(layer.get_base_layer())
    assert frozen is not None
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (frozen.dense().double() + 2.5 * b.double() @ a.double()).norm(dim=1)
    torch.testing.assert_close(weight_norm(frozen, a, b, 2.5).double(), expected, rtol=2e-6, atol=0)
