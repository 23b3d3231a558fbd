"""What the trace takes for granted about torch: what autograd keeps, what autocast casts, which kernels attention has.

A new release that changes one of these facts would make predictions wrong in silence. Here it fails, and says which
file has to follow.
"""

from __future__ import annotations

import inspect
import re
from typing import Any
from unittest.mock import patch

import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.memory.canary import BF16, HEADERS, Functions, Operators, fact
from xrayexp.memory import device_semantics
from xrayexp.memory.device_semantics import CPU, CUDA, DeviceSemantics
from xrayexp.memory.step import StepShape, trace_generation, trace_step
from xrayexp.memory.trace import AllocationTrace

# --- what is recorded: memory/trace.py ---


@fact("a storage that only autograd holds lives until backward has used it, and its views share it", "memory/trace.py")
def test_storages_live_as_long_as_autograd_needs_them() -> None:
    trace = AllocationTrace()
    with trace:
        weight = torch.empty(256, device="meta", requires_grad=True)
        hidden = (weight * 2).exp()  # exp keeps its result of 1 KiB
        view = hidden.view(16, 16)
        assert view.untyped_storage()._cdata == hidden.untyped_storage()._cdata
        loss = view.sum()
        del hidden, view
        held = [event.size for event in trace.recording.events].count(1024)
        released = [event.size for event in trace.recording.events].count(0)
        assert (held, released) == (3, 1), "of the parameter, its double and the result only the double may be gone"
        loss.backward()
        del loss
    live = {event.block: event.size for event in trace.recording.events}
    assert sum(live.values()) == 2 * 1024, "after backward the parameter and its gradient are left"


@fact("reading a number from a tensor is the operator aten::_local_scalar_dense", "memory/step.py")
def test_reading_a_number() -> None:
    number = torch.ones(())
    with Operators() as seen:
        for read in (bool, int, float, torch.Tensor.item):
            read(number)
    assert seen.names == ["aten::_local_scalar_dense"] * 4


@fact("code that needs content raises RuntimeError or NotImplementedError on the meta device", "planning.py")
def test_content_is_missed_loudly() -> None:
    for read in (bool, torch.Tensor.tolist, torch.Tensor.cpu):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read(torch.empty((), device="meta"))


# --- what a device does: memory/device_semantics.py ---


def autocast_lists() -> dict[str, set[str]]:
    """The operators by what autocast does to them on CUDA, from the header that torch ships."""
    text = (HEADERS / "ATen" / "autocast_mode.h").read_text(encoding="utf-8")
    blocks = re.findall(r"#define AT_FORALL_(\w+)\(_\)((?:.*\\\n)*.*\n)", text)
    return {name: set(re.findall(r"_\((?:ADD_NS\()?(\w+)", block)) for name, block in blocks}


def operator_of(function: Any) -> str:
    """The operator's name behind a function of torch."""
    name = re.sub(r"^__r?(\w+)__$", r"\1", function.__name__)
    # What these two are made of.
    return {"cross_entropy": "log_softmax", "linalg_norm": "linalg_vector_norm"}.get(name, name)


LISTS = "autocast on CUDA lowers and raises the operators that ATen/autocast_mode.h of torch 2.13 lists"


@fact(LISTS, "memory/device_semantics.py")
def test_autocast_lists() -> None:
    lists = autocast_lists()
    takes_dtype = lists["FP32_SET_OPT_DTYPE"]
    full = takes_dtype | lists["FP32"] | lists["DIFFERENT_REDISPATCH_SIGNATURE"]
    assert {operator_of(f) for f in DeviceSemantics.LOWER} <= lists["LOWER_PRECISION_FP"]
    assert {operator_of(f) for f in DeviceSemantics.FULL} <= full
    assert {operator_of(f) for f in device_semantics._TAKE_A_DTYPE} <= takes_dtype
    assert "scaled_dot_product_attention" in lists["LOWER_PRECISION_FP"]


@fact(f"{LISTS}, and of these a step calls none but those that DeviceSemantics names", "memory/device_semantics.py")
def test_functions_that_a_step_calls(traced: PeftModel) -> None:
    """Also where transformers, PEFT or this package begin to call another one."""
    seen = Functions()
    original = DeviceSemantics.__torch_function__

    def watched(self: DeviceSemantics, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not isinstance(func, torch._ops.OpOverload):
            seen.called.add(func)
        return original(self, func, types, args, kwargs)

    with patch.object(DeviceSemantics, "__torch_function__", watched):
        trace_step(traced, StepShape(2, 64, 20, chunk=8), autocast=BF16)
        trace_generation(traced, 2, 32, 2, autocast=BF16)
    lists = autocast_lists()
    assert {functional.linear, functional.layer_norm, torch.rsqrt} <= seen.called, "the step was not watched"
    for function in seen.called - {functional.scaled_dot_product_attention}:
        name = operator_of(function)
        lowered, promoted = name in lists["LOWER_PRECISION_FP"], name in lists["PROMOTE"]
        raised = any(name in lists[kind] for kind in ("FP32", "FP32_SET_OPT_DTYPE", "DIFFERENT_REDISPATCH_SIGNATURE"))
        assert lowered <= (function in DeviceSemantics.LOWER), f"{name} is lowered"
        assert raised <= (function in DeviceSemantics.FULL), f"{name} is raised"
        assert not promoted, f"{name} promotes its arguments to the widest type"


MATRIX, BATCHED = torch.ones(4, 4), torch.ones(2, 4, 4)
LOWERED: dict[Any, tuple[Any, ...]] = {
    functional.linear: (MATRIX, MATRIX),
    functional.conv2d: (torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)),
    torch.addmm: (MATRIX, MATRIX, MATRIX),
    torch.Tensor.addmm: (MATRIX, MATRIX, MATRIX),
    torch.baddbmm: (BATCHED, BATCHED, BATCHED),
    torch.bmm: (BATCHED, BATCHED),
    torch.Tensor.bmm: (BATCHED, BATCHED),
    torch.einsum: ("ij,jk->ik", MATRIX, MATRIX),
}


@fact("autocast on CPU lowers the same functions as on CUDA, and raises none of these", "memory/device_semantics.py")
def test_autocast_on_cpu() -> None:
    with torch.autocast("cpu", BF16):
        for function in DeviceSemantics.LOWER:
            assert function(*LOWERED.get(function, (MATRIX, MATRIX))).dtype == BF16, operator_of(function)
        assert functional.scaled_dot_product_attention(BATCHED, BATCHED, BATCHED).dtype == BF16
        low = MATRIX.to(BF16)
        for name in ("exp", "log", "rsqrt", "reciprocal", "softmax", "log_softmax", "sum", "cumsum"):
            function = getattr(torch, name)
            arguments = (low, 0) if name in ("softmax", "log_softmax", "cumsum") else (low,)
            assert function(*arguments).dtype == BF16, f"{name} is raised"
        assert functional.layer_norm(low, (4,)).dtype == BF16
        assert low.pow(2).dtype == BF16


@fact("autocast keeps the cast of a trained float32 weight and of nothing else", "memory/device_semantics.py")
def test_autocast_cache() -> None:
    x = torch.ones(2, 4)
    for trained, casts in ((True, 1), (False, 2)):
        weight = nn.Parameter(torch.ones(4, 4), requires_grad=trained)
        with Operators() as seen, torch.autocast("cpu", BF16):
            functional.linear(x, weight)
            functional.linear(x, weight)
        cast = [args[0] for func, args, _ in seen.calls if func is torch.ops.aten._to_copy.default]
        assert sum(tensor.shape == weight.shape for tensor in cast) == casts


@fact("run_backward of autograd's engine takes these arguments and leaves modes on for what is recomputed",
      "memory/device_semantics.py")  # fmt: skip
def test_the_engine() -> None:
    weight = nn.Parameter(torch.ones(4, 4))

    def loss() -> torch.Tensor:
        return checkpoint(functional.linear, torch.ones(2, 4), weight, use_reentrant=False).square().sum()  # type: ignore[no-any-return]

    loss().backward()
    expected = weight.grad.clone()  # type: ignore[union-attr]
    weight.grad = None
    semantics, calls = DeviceSemantics(CPU), []
    original = DeviceSemantics.__torch_function__

    def watched(self: DeviceSemantics, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        calls.append(func)
        return original(self, func, types, args, kwargs)

    with patch.object(DeviceSemantics, "__torch_function__", watched), semantics:
        loss().backward()
    assert torch.equal(weight.grad, expected)  # type: ignore[arg-type]
    assert calls.count(functional.linear) == 2, "once in the forward pass, once recomputed"


ATTENTION = {
    "_scaled_dot_product_flash_attention_for_cpu": "query key value dropout_p is_causal attn_mask scale",
    "_scaled_dot_product_flash_attention": "query key value dropout_p is_causal return_debug_mask scale",
    "_scaled_dot_product_efficient_attention": "query key value attn_bias compute_log_sumexp dropout_p is_causal scale",
    "_scaled_dot_product_flash_attention_backward": "grad_out query",
    "_scaled_dot_product_efficient_attention_backward": "grad_out_ query",
}


@fact("attention's kernels are these operators, with these arguments", "memory/device_semantics.py and scratch.py")
def test_attention_operators() -> None:
    for name, expected in ATTENTION.items():
        arguments = [argument.name for argument in getattr(torch.ops.aten, name).default._schema.arguments]
        known = expected.split()
        assert arguments[: len(known)] == known, name
        assert name.endswith("backward") or len(arguments) == len(known), f"{name} takes {arguments}"
    function = torch.ops.aten.scaled_dot_product_attention.default._schema.arguments
    for device in (CPU, CUDA):
        assert list(inspect.signature(device.fused_attention).parameters) == [argument.name for argument in function]


@fact("on a CPU scaled_dot_product_attention runs flash attention, with a mask and without",
      "memory/device_semantics.py")  # fmt: skip
def test_attention_on_cpu() -> None:
    query = torch.ones(1, 2, 8, 16, requires_grad=True)
    for mask in (None, torch.ones(1, 1, 8, 8, dtype=torch.bool)):
        with Operators() as seen:
            functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)
        assert "aten::_scaled_dot_product_flash_attention_for_cpu" in seen.names
