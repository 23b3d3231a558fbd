"""What the trace takes for granted about torch, transformers, PEFT and bitsandbytes, asked of the real thing.

A new release that changes one of these facts would make predictions wrong in silence. Here it fails, and says which
file has to follow.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from transformers import BitsAndBytesConfig, DynamicCache, PreTrainedModel

from xrayexp.adapters.attach import attach_adapter, base_model
from xrayexp.adapters.config import AdapterSection
from xrayexp.memory import allocator, device_semantics
from xrayexp.memory.device_semantics import CPU, CUDA, DeviceSemantics
from xrayexp.memory.measure import GIB, peak_memory_gib
from xrayexp.memory.optimizer_state import bytes_per_number
from xrayexp.memory.scratch import scratch_of_kernels
from xrayexp.memory.step import StepShape, _lengthen, as_on, example_batch, trace_generation, trace_step
from xrayexp.memory.trace import AllocationTrace
from xrayexp.models.loading import enable_gradient_checkpointing, load_model
from xrayexp.models.skeleton import load_config, skeleton, weight_tensors
from xrayexp.planning import TRACED

TINY = "pkg://xrayexp/models/tiny"
HEADERS = Path(torch.__file__).parent / "include"
BF16 = torch.bfloat16


@contextmanager
def fact(statement: str, user: str) -> Iterator[None]:
    """Around a test: whatever goes wrong in it means that the statement is no longer true."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        releases = ", ".join(f"{name} {version(name)}" for name in TRACED)
        message = f"no longer true with {releases}: {statement}. xrayexp/{user} relies on it."
        pytest.fail(f"{message}\n{type(error).__name__}: {error}")


class Operators(TorchDispatchMode):
    """Which operators run, with what."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    @property
    def names(self) -> list[str]:
        return [func.name() for func, _, _ in self.calls]


class Functions(TorchFunctionMode):
    """Which functions of torch are called, operators that autograd calls by themselves left out."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[Any] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not isinstance(func, torch._ops.OpOverload):
            self.called.add(func)
        return func(*args, **(kwargs or {}))


def nf4() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)


def adapted(base: PreTrainedModel, target: str = "language") -> PeftModel:
    peft = {"_target_": "peft.LoraConfig", "r": 4, "use_dora": True}
    section = AdapterSection(name="dora", lr_scale=1.0, target=target, quantized_base=True, peft=peft)
    return attach_adapter(base, section).train()


@pytest.fixture(scope="module")
def real() -> PreTrainedModel:
    """The tiny model as it is loaded."""
    return load_model(TINY, quantization=nf4(), dtype=BF16, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def bones() -> PreTrainedModel:
    """The same without weights."""
    return skeleton(load_config(TINY, None), quantization=nf4(), dtype=BF16)


@pytest.fixture(scope="module")
def traced() -> PeftModel:
    """Without weights, with DoRA on all layers and checkpointing."""
    base = skeleton(load_config(TINY, None), quantization=nf4(), dtype=BF16)
    with as_on(CUDA):
        model = adapted(base, "language+vision")
    enable_gradient_checkpointing(base_model(model))
    return model


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


# --- what kernels allocate: memory/scratch.py ---


@fact("a 4-bit layer multiplies by bitsandbytes::gemm_4bit and dequantises in backward", "memory/scratch.py")
def test_4bit_operators(real: PreTrainedModel) -> None:
    layer: Any = real.get_submodule("model.language_model.layers.0.mlp.up_proj")
    gemm = torch.ops.bitsandbytes.gemm_4bit.default
    scratch = scratch_of_kernels("cpu")[gemm]
    asked = [argument.name for argument in gemm._schema.arguments]
    assert asked[:8] == ["A", "B", "shapeB", "absmax", "blocksize", "quant_type", "bias", "absmax_8bit"]
    x = torch.ones(5, layer.in_features, dtype=BF16, requires_grad=True)
    with Operators() as seen:
        y = layer(x)
        forward = list(seen.names)
        y.sum().backward()
    assert forward.count("bitsandbytes::gemm_4bit") == 1
    assert not [name for name in forward if "dequantize" in name]
    assert "bitsandbytes::dequantize_4bit" in seen.names[len(forward) :]
    [(args, options)] = [(args, options) for func, args, options in seen.calls if func is gemm]
    [size] = scratch(*args, **options)
    numbers = layer.in_features * layer.out_features
    assert size == 2 * numbers + 4 * numbers // layer.weight.quant_state.blocksize


@fact("image features are put between the words by aten::masked_scatter", "memory/scratch.py")
def test_image_features_are_scattered(bones: PreTrainedModel) -> None:
    with Operators() as seen, as_on(CPU), DeviceSemantics(CPU):
        inputs, _ = example_batch(bones, StepShape(1, 32, 4), torch.device("meta"))
        bones.model(**inputs, use_cache=False)
    assert seen.names.count("aten::masked_scatter") == 1


# --- the step: memory/step.py ---


@fact("autocast takes the device first, and is switched on for CUDA where there is none", "memory/step.py")
def test_autocast_of_another_device() -> None:
    assert next(iter(list(inspect.signature(torch.autocast.__init__).parameters)[1:])) == "device_type"
    with as_on(CUDA), torch.autocast("cuda", BF16):
        assert torch.is_autocast_enabled("cuda")
        assert torch.is_autocast_enabled("meta")
        assert torch.get_autocast_dtype("meta") == BF16
        with torch.autocast("meta", enabled=False):
            assert not torch.is_autocast_enabled("cuda")
    assert not torch.is_autocast_enabled("cuda")


@fact("checkpointing asks _infer_device_type whose autocast it has to restore", "memory/step.py")
def test_checkpoint_restores_autocast() -> None:
    states = []

    def block(x: torch.Tensor) -> torch.Tensor:
        states.append((torch.is_autocast_enabled("cuda"), torch.is_autocast_enabled("cpu")))
        return x.exp()

    x = torch.empty(4, device="meta", requires_grad=True)
    with as_on(CUDA):
        with torch.autocast("cuda", BF16):
            loss = checkpoint(block, x, use_reentrant=False).sum()
        loss.backward()
    assert states == [(True, False)] * 2, "in the forward pass and recomputed"


@fact("PEFT's 4-bit layers ask torch.is_autocast_enabled() without a device, which means CUDA", "memory/step.py")
def test_peft_asks_for_cudas_autocast(real: PreTrainedModel) -> None:
    with torch.autocast("cpu", BF16):
        assert not torch.is_autocast_enabled()
    section = AdapterSection(
        name="lora", lr_scale=1.0, target="attention", quantized_base=True, peft={"_target_": "peft.LoraConfig", "r": 4}
    )
    layer: Any = attach_adapter(copy.deepcopy(real), section).get_submodule(
        "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    )
    asked: list[tuple[Any, ...]] = []
    ask = torch.is_autocast_enabled

    def watched(*device: Any) -> bool:
        asked.append(device)
        return ask(*device)

    with patch.object(torch, "is_autocast_enabled", watched):
        layer(torch.ones(2, layer.in_features, dtype=BF16))
    assert () in asked


@fact("TRANSFORMERS_DISABLE_TORCH_CHECK=1 switches off transformers' checks of values", "memory/step.py")
def test_checks_of_values() -> None:
    from transformers.utils.import_utils import torch_compilable_check

    unknown = torch.empty((), dtype=torch.bool, device="meta")
    with as_on(CPU):
        torch_compilable_check(unknown, "never raised")
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch_compilable_check(unknown, "cannot be known")


@fact("the vision tower and the language model are parts of model.model, each called once a step", "memory/step.py")
def test_named_parts(bones: PreTrainedModel) -> None:
    called: list[str] = []
    inner: Any = bones.model
    parts = {"vision": inner.vision_tower, "language": inner.language_model}
    handles = [part.register_forward_hook(lambda *_, name=name: called.append(name)) for name, part in parts.items()]
    with as_on(CPU), DeviceSemantics(CPU):
        inputs, _ = example_batch(bones, StepShape(1, 32, 4), torch.device("meta"))
        inner(**inputs, use_cache=False)
    for handle in handles:
        handle.remove()
    assert called == ["vision", "language"]


@fact("a cache's layers hold keys and values [batch, heads, tokens, width], sliding ones one token less than their "
      "window, and count what they have seen", "memory/step.py")  # fmt: skip
def test_cache_of_a_long_decoding(real: PreTrainedModel) -> None:
    """Decoded beyond the window, and lengthened at once."""
    text = copy.deepcopy(real.config.get_text_config())
    text.sliding_window = 8
    kinds = text.layer_types
    assert {"sliding_attention", "full_attention"} == set(kinds)

    def cached(tokens: int) -> Any:
        cache = DynamicCache(config=text)
        for _ in range(tokens):
            for layer in range(len(kinds)):
                state = torch.ones(2, text.num_key_value_heads, 1, text.head_dim)
                cache.update(state, state, layer)
        return cache

    for short, long in ((3, 6), (3, 20), (12, 20)):
        decoded, lengthened = cached(long), cached(short)
        _lengthen(lengthened, long)
        for kind, one, other in zip(kinds, decoded.layers, lengthened.layers, strict=True):
            assert one.is_sliding == (kind == "sliding_attention")
            assert one.keys is not None
            assert other.keys is not None
            assert one.keys.shape == other.keys.shape, kind
            assert one.keys.dtype == other.keys.dtype
            assert one.get_seq_length() == other.get_seq_length() == long, kind


# --- the skeleton: models/skeleton.py ---


def described(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Every parameter and buffer: its class, its shape and its type; of 4-bit ones the scales too."""
    tensors: dict[str, Any] = dict(model.named_parameters()) | dict(model.named_buffers())
    found: dict[str, tuple[Any, ...]] = {}
    for name, tensor in tensors.items():
        found[name] = type(tensor).__name__, tuple(tensor.shape), tensor.dtype
        for path, part in state_tensors(getattr(tensor, "quant_state", None)):
            found[f"{name}{path}"] = tuple(part.shape), part.dtype
    return found


def state_tensors(state: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors in a quantisation state, wherever they are."""
    for name, value in vars(state).items() if hasattr(state, "__dict__") else ():
        if isinstance(value, torch.Tensor):
            yield f".{name}", value
        elif type(value) is type(state):
            yield from ((f".{name}{path}", tensor) for path, tensor in state_tensors(value))


@fact("transformers quantises the layers that replace_with_bnb_linear replaces, to weights and scales of these shapes",
      "models/skeleton.py")  # fmt: skip
def test_the_skeleton_is_the_loaded_model(real: PreTrainedModel, bones: PreTrainedModel) -> None:
    loaded, built = described(real), described(bones)
    assert loaded.keys() == built.keys()
    assert {name: (loaded[name], built[name]) for name in loaded if loaded[name] != built[name]} == {}
    for (name, one), other in zip(real.named_modules(), bones.modules(), strict=True):
        assert type(one) is type(other), name
        for setting in ("compute_dtype", "support_avx512bf16_for_cpu"):
            assert getattr(one, setting, None) == getattr(other, setting, None), name


@fact("all tensors of a QuantState are absmax, code, offset and those of state2", "models/skeleton.py")
def test_all_scales_are_counted(real: PreTrainedModel) -> None:
    counted = {id(tensor) for tensor in weight_tensors(real)["quantized"]}
    packed = [parameter for parameter in real.parameters() if hasattr(parameter, "quant_state")]
    assert len(packed) > 30
    for parameter in packed:
        for path, tensor in state_tensors(parameter.quant_state):
            assert id(tensor) in counted, path


@fact("PEFT copies a 4-bit layer to measure its norms, and copy asks the weight itself how", "models/skeleton.py")
def test_copying_a_layer_without_weights(bones: PreTrainedModel) -> None:
    layer = bones.get_submodule("model.language_model.layers.0.mlp.up_proj")
    assert copy.deepcopy(layer).weight is layer.weight


# --- sizes: memory/optimizer_state.py, allocator.py and measure.py ---


@fact(
    "AdamW keeps 8 bytes a number, that of bitsandbytes 2 and its scales, in optimizer.state",
    "memory/optimizer_state.py",
)
def test_optimizer_state() -> None:
    from bitsandbytes.optim.adamw import PagedAdamW8bit

    assert bytes_per_number(torch.optim.AdamW) == 8
    assert bytes_per_number(PagedAdamW8bit) == pytest.approx(2, rel=0.05)


@fact("the caching allocator rounds and cuts by these constants", "memory/allocator.py")
def test_allocator_constants() -> None:
    """Those that this release of torch has in a header."""
    known = {
        "kMinBlockSize": allocator.ROUNDING,
        "kSmallSize": allocator._SMALL,
        "kSmallBuffer": allocator._SMALL_SEGMENT,
        "kMinLargeAlloc": allocator._MEDIUM,
        "kLargeBuffer": allocator._MEDIUM_SEGMENT,
        "large_segment_size_": allocator._MEDIUM_SEGMENT,
        "kRoundLarge": allocator._LARGE_ROUNDING,
    }
    text = (HEADERS / "c10" / "core" / "AllocatorConfig.h").read_text(encoding="utf-8")
    shipped = {name: int(value) for name, value in re.findall(r"\b(\w+)(?: = |\{)(\d+)\}?;", text) if name in known}
    assert shipped, "AllocatorConfig.h has none of them"
    assert shipped == {name: known[name] for name in shipped}


@fact("torch.cuda counts the allocated peak, and a process on Linux its resident one in KiB", "memory/measure.py")
def test_measures() -> None:
    assert callable(torch.cuda.max_memory_allocated)
    assert callable(torch.cuda.reset_peak_memory_stats)
    status = Path("/proc/self/status")
    if status.exists():
        [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        assert peak_memory_gib(torch.device("cpu")) == pytest.approx(int(peak) * 1024 / GIB, rel=0.01)
