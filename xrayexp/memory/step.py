"""One training step, and one round of generation, traced without a device and without weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from xrayexp.adapters.attach import base_model, whole_parameters
from xrayexp.memory.device_semantics import CUDA, Device, DeviceSemantics
from xrayexp.memory.scratch import scratch_of_kernels
from xrayexp.memory.trace import AllocationTrace, Recording, uncollected
from xrayexp.models.image_features import FEATURES, embedding_dtype, image_features
from xrayexp.models.skeleton import weight_tensors
from xrayexp.training.loss import supervised_loss_sum

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# Phases, as they stand in a breakdown.
WEIGHTS, EMBEDDINGS, ADAPTER = "quantised and other weights", "embeddings", "adapter"
WHOLE = "modules trained whole, their gradients and optimiser state"
FEATURE_STORE = "kept image features"
OPTIMIZER, GRADIENTS, INPUTS = "optimiser state", "gradients", "inputs"
VISION, LANGUAGE, LOSS, BACKWARD = "vision tower", "language model", "logits and loss", "backward pass"
CACHE, GENERATION = "key-value cache", "generation"
STEP = "step"

IGNORED = -100


@dataclass(frozen=True)
class StepShape:
    """What a step is made of.

    Attributes:
        samples: micro-batch size.
        tokens: of a sample, image tokens included.
        supervised: of these, the tokens with a label.
        accumulates: whether the step has several micro-batches: from the second on, gradients are there from the start.
        chunk: positions whose logits exist at once; None for all.
        features: images whose features are kept from the micro-batches before; None where every micro-batch goes
            through a vision tower that may be trained.
    """

    samples: int
    tokens: int
    supervised: int
    accumulates: bool = False
    chunk: int | None = None
    features: int | None = None


@contextmanager
def as_on(device: Device) -> Iterator[None]:
    """Lets code that asks torch about devices hear what it would on this one, and checks of values pass."""
    original = torch.autocast.__init__

    def autocast_of_device(self: torch.autocast, device_type: str, *args: Any, **options: Any) -> None:
        original(self, device.name if device_type == "meta" else device_type, *args, **options)

    with ExitStack() as stack:
        # Code that asks for the autocast of a tensor's device means this one.
        stack.enter_context(patch.object(torch.autocast, "__init__", autocast_of_device))
        for name in ("is_autocast_enabled", "get_autocast_dtype"):
            stack.enter_context(patch.object(torch, name, _for_device(getattr(torch, name), device)))
        # transformers compares numbers of image tokens, which meta tensors do not have; its own switch.
        stack.enter_context(patch.dict(os.environ, {"TRANSFORMERS_DISABLE_TORCH_CHECK": "1"}))
        # Checkpointing asks its arguments where they are, and restores the autocast of that device alone.
        stack.enter_context(patch("torch.utils.checkpoint._infer_device_type", lambda *_: device.name))
        stack.enter_context(patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        stack.enter_context(patch("torch.cuda.is_bf16_supported", lambda *_, **__: True))
        yield


def _for_device(ask: Callable[..., Any], device: Device) -> Callable[..., Any]:
    """`ask` about autocast, with the meta device standing for this one."""

    def answer(*names: str) -> Any:
        return ask(*(device.name if name == "meta" else name for name in names))

    return answer


def trace_step(
    model: PeftModel,
    shape: StepShape,
    *,
    autocast: torch.dtype | None,
    state_bytes: Sequence[int] = (),
    device: Device = CUDA,
) -> Recording:
    """Records forward and backward of a training step in its steady state.

    Args:
        model: of `xrayexp.models.skeleton`, with its adapter, ready to train.
        shape: of the step.
        autocast: the precision of autocast, or None.
        state_bytes: what the optimiser keeps on the device of each trained parameter, in their order; empty for none.
        device: whose behaviour is traced.
    """
    base = base_model(model)
    trace = AllocationTrace(scratch_of_kernels(device.name), values={torch.ops.aten._local_scalar_dense.default: 0})
    _hold_weights(trace, model)
    trained, whole = [p for p in model.parameters() if p.requires_grad], set(map(id, whole_parameters(model)))
    for parameter, size in zip(trained, state_bytes or [0] * len(trained), strict=True):
        trace.allocate(size, WHOLE if id(parameter) in whole else OPTIMIZER)
    gradients = {parameter: WHOLE if id(parameter) in whole else GRADIENTS for parameter in trained}
    if shape.accumulates:
        for parameter, name in gradients.items():
            parameter.grad = torch.empty_like(parameter)
            trace.hold([parameter.grad], name)
    with uncollected(), as_on(device), _named_parts(trace, base), trace, DeviceSemantics(device) as semantics:
        with trace.phase(STEP), _named_gradients(trace, gradients):
            with trace.phase(INPUTS):
                inputs, labels = example_batch(base, shape, torch.device("meta"))
            with torch.autocast(device.name, dtype=autocast, enabled=autocast is not None), trace.phase(LOSS):
                kept = None if shape.features is None else _put_features(trace, base, inputs, shape.features)
                loss = supervised_loss_sum(base, inputs, labels, shape.chunk)
            with trace.phase(BACKWARD):
                loss.backward()
            del loss, inputs, kept
        semantics.forget_casts()
    model.zero_grad()
    return trace.recording


@torch.no_grad()
def trace_generation(
    model: PeftModel, samples: int, prompt: int, new_tokens: int, *, autocast: torch.dtype | None, device: Device = CUDA
) -> Recording:
    """Records the prompt's pass and the last step of decoding, with the key-value cache at its full length."""
    from transformers import DynamicCache

    base = base_model(model)
    training = model.training
    model.eval()
    trace = AllocationTrace(scratch_of_kernels(device.name), values={torch.ops.aten._local_scalar_dense.default: 0})
    _hold_weights(trace, model)
    with uncollected(), as_on(device), _named_parts(trace, base), trace, DeviceSemantics(device) as semantics:
        with torch.autocast(device.name, dtype=autocast, enabled=autocast is not None), trace.phase(GENERATION):
            with trace.phase(INPUTS):
                inputs, _ = example_batch(base, StepShape(samples, prompt, 1), torch.device("meta"))
            cache = DynamicCache(config=base.config.get_text_config())
            base(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits.float()
            with trace.phase(CACHE):
                _lengthen(cache, prompt + new_tokens - 1)
            inputs = {
                "input_ids": torch.empty(samples, 1, dtype=torch.long, device="meta"),
                "attention_mask": torch.empty(samples, prompt + new_tokens, dtype=torch.long, device="meta"),
            }
            base(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits.float()
        semantics.forget_casts()
    model.train(training)
    return trace.recording


def _put_features(
    trace: AllocationTrace, base: PreTrainedModel, inputs: dict[str, torch.Tensor], before: int
) -> list[torch.Tensor]:
    """Puts features in place of pixels, as `xrayexp.training.feature_store` does; returns what it keeps."""
    config: Any = base.config
    with trace.phase(FEATURE_STORE):
        size = (before, config.mm_tokens_per_image, config.get_text_config().hidden_size)
        earlier = torch.empty(size, dtype=embedding_dtype(base), device="meta")
        computed = image_features(base, inputs.pop("pixel_values"))
        inputs[FEATURES] = torch.stack(list(computed))
    return [earlier, computed]


def _hold_weights(trace: AllocationTrace, model: torch.nn.Module) -> None:
    kinds = weight_tensors(model)
    trace.hold(kinds["embeddings"], EMBEDDINGS)
    trace.hold([*kinds["quantized"], *kinds["other"]], WEIGHTS)
    trace.hold(kinds["trained"], ADAPTER)
    trace.hold(whole_parameters(model), WHOLE)


def example_batch(
    base: PreTrainedModel, shape: StepShape, device: torch.device
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A micro-batch of this shape with random content; on the meta device without.

    Every sample is one padded token, an image, and text.

    Args:
        base: the model that it is for.
        shape: of the step.
        device: where the inputs go.

    Returns:
        The model's keyword arguments, [samples, tokens] each beside the pixels [samples, channels, size, size], and
        labels [samples, tokens], which are on the host: the last `supervised` tokens of every sample have one.
    """
    config: Any = base.config
    image, size = slice(1, 1 + config.mm_tokens_per_image), config.vision_config.image_size
    tokens = torch.randint(config.image_token_id, (shape.samples, shape.tokens), device=device)
    mask, types = torch.ones_like(tokens), torch.zeros_like(tokens)
    tokens[:, image], types[:, image], mask[:, 0] = config.image_token_id, 1, 0
    inputs = {
        "input_ids": tokens,
        "attention_mask": mask,
        "token_type_ids": types,
        "pixel_values": torch.randn(shape.samples, config.vision_config.num_channels, size, size, device=device),
    }
    labels = torch.full((shape.samples, shape.tokens), IGNORED)
    labels[:, shape.tokens - shape.supervised :] = 0
    return inputs, labels


@contextmanager
def _named_parts(trace: AllocationTrace, base: Any) -> Iterator[None]:
    """Names what the vision tower and the language model allocate in their forward passes."""
    with ExitStack() as stack:
        for name, module in ((VISION, base.model.vision_tower), (LANGUAGE, base.model.language_model)):
            open_phases: list[Any] = []

            def begin(*_: Any, name: str = name, open_phases: list[Any] = open_phases) -> None:
                open_phases.append(trace.phase(name))
                open_phases[-1].__enter__()

            def end(*_: Any, open_phases: list[Any] = open_phases) -> None:
                open_phases.pop().__exit__(None, None, None)

            for handle in (module.register_forward_pre_hook(begin), module.register_forward_hook(end)):
                stack.callback(handle.remove)
        yield


@contextmanager
def _named_gradients(trace: AllocationTrace, names: Mapping[torch.nn.Parameter, str]) -> Iterator[None]:
    """Gives gradients that appear in the backward pass their names."""

    def named(parameter: torch.Tensor) -> None:
        assert isinstance(parameter, torch.nn.Parameter)
        assert parameter.grad is not None
        trace.hold([parameter.grad], names[parameter])

    with ExitStack() as stack:
        for parameter in names:
            stack.callback(parameter.register_post_accumulate_grad_hook(named).remove)
        yield


def _lengthen(cache: Any, length: int) -> None:
    """Puts keys and values of `length` tokens into a cache, those of sliding layers no longer than their window."""
    for layer in cache.layers:
        batch, heads, _, width = layer.keys.shape
        kept = min(length, getattr(layer, "sliding_window", length) - 1) if layer.is_sliding else length
        layer.keys = torch.empty(batch, heads, kept, width, dtype=layer.keys.dtype, device="meta")
        layer.values = torch.empty_like(layer.keys)
        if layer.is_sliding:
            layer.cumulative_length = length
