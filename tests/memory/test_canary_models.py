"""What the trace takes for granted about the step's parts: transformers, PEFT, bitsandbytes, and torch's allocator.

As in test_canary_torch.py, a fact that is no longer true names the file that has to follow.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedModel

from tests.memory.canary import BF16, HEADERS, Operators, fact
from xrayexp.adapters.attach import attach_adapter
from xrayexp.adapters.config import AdapterSection
from xrayexp.memory import allocator
from xrayexp.memory.device_semantics import CPU, CUDA, DeviceSemantics
from xrayexp.memory.measure import GIB, peak_memory_gib
from xrayexp.memory.optimizer_state import bytes_per_number
from xrayexp.memory.scratch import scratch_of_kernels
from xrayexp.memory.step import StepShape, _lengthen, as_on, example_batch
from xrayexp.models.skeleton import weight_tensors

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
