"""Loads any model the same way: the tiny one, MedGemma from the hub, a folder that is quantised already."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xrayexp.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin
    from transformers.utils.quantization_config import QuantizationConfigMixin

PACKAGE_SCHEME = "pkg://"


def resolve_pretrained(pretrained: str) -> str:
    """The folder or hub id that transformers understands: `pkg://package/path` becomes a folder."""
    if not pretrained.startswith(PACKAGE_SCHEME):
        return pretrained
    package, _, path = pretrained.removeprefix(PACKAGE_SCHEME).partition("/")
    return str(Path(str(importlib.resources.files(package))) / path)


def load_processor(pretrained: str) -> ProcessorMixin:
    """The tokenizer, image processor and chat template of a checkpoint."""
    from transformers import AutoProcessor

    processor: ProcessorMixin = AutoProcessor.from_pretrained(resolve_pretrained(pretrained))
    return processor


def load_model(
    pretrained: str,
    *,
    quantization: QuantizationConfigMixin | None,
    dtype: torch.dtype,
    device: torch.device,
    attention: str = "sdpa",
) -> PreTrainedModel:
    """Loads a vision-language model with all its parameters frozen.

    Args:
        pretrained: a local folder, a hub id or `pkg://package/path`.
        quantization: how to quantise while loading. A checkpoint that is quantised already is loaded as it is.
        dtype: type of the weights that are not quantised, and of the arithmetic of those that are.
        device: where the weights go.
        attention: transformers' attention implementation.

    Raises:
        ConfigError: when a checkpoint that is quantised already is asked for unquantised.
    """
    from transformers import AutoModelForImageTextToText

    path, stored = resolve_pretrained(pretrained), stored_quantization(pretrained)
    if stored is not None:
        _require_same_quantization(pretrained, stored, quantization)
    if quantization is not None and hasattr(quantization, "bnb_4bit_compute_dtype"):
        quantization.bnb_4bit_compute_dtype = dtype
    # A stored quantisation is only found when nothing, not even None, is passed in its place.
    chosen = {} if stored is not None else {"quantization_config": quantization}
    model: PreTrainedModel = AutoModelForImageTextToText.from_pretrained(
        path, dtype=dtype, device_map={"": device}, attn_implementation=attention, **chosen
    )
    if stored is not None:
        _cast_unquantized(model, dtype)
    _prepare_4bit_layers(model, dtype)
    return model.requires_grad_(False)


def stored_quantization(pretrained: str) -> dict[str, Any] | None:
    """The quantisation that a checkpoint was saved with; None when its weights are whole."""
    from transformers import AutoConfig

    stored: Any = getattr(AutoConfig.from_pretrained(resolve_pretrained(pretrained)), "quantization_config", None)
    return stored if stored is None or isinstance(stored, dict) else stored.to_dict()


def _require_same_quantization(pretrained: str, stored: dict[str, Any], asked: QuantizationConfigMixin | None) -> None:
    """A stored quantisation cannot be undone or changed, so it must be the one that the config records."""
    bits = [name for name in ("load_in_4bit", "load_in_8bit") if stored.get(name)]
    if asked is None or not all(getattr(asked, name, False) for name in bits):
        name = {"load_in_4bit": "nf4", "load_in_8bit": "int8"}.get(bits[0] if bits else "", "the stored one")
        raise ConfigError([f"{pretrained} is stored quantised, which cannot be changed: use quantization={name}"])


def _cast_unquantized(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Casts what a stored checkpoint did not quantise: transformers casts its biases, but not its weights (5.23)."""
    from bitsandbytes.nn.modules import Int8Params, Params4bit

    for parameter in model.parameters():
        if parameter.is_floating_point() and not isinstance(parameter, Params4bit | Int8Params):
            parameter.data = parameter.data.to(dtype)


def _prepare_4bit_layers(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Makes 4-bit layers safe to train, and stored ones compute in this run's type.

    On CPUs with AVX512-BF16 bitsandbytes repacks 4-bit weights in place at the first forward pass without
    gradients, that is at the first validation. From then on gradients are silently zero and dequantised weights
    are wrong (bitsandbytes 0.50).
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
            module.compute_dtype = dtype


def is_quantized(model: torch.nn.Module) -> bool:
    """Whether any layer holds 4-bit or 8-bit weights."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    return any(isinstance(module, Linear4bit | Linear8bitLt) for module in model.modules())


def enable_gradient_checkpointing(model: PreTrainedModel, layers: int | None = None) -> None:
    """Recomputes activations in the backward pass instead of keeping them.

    transformers also makes the outputs of the embeddings require gradients, of the vision tower's too, so that a
    frozen tower is kept in memory and backpropagated for nothing. Non-reentrant checkpointing needs none of that.

    Args:
        model: a vision-language model.
        layers: how many decoder layers of the language model are checkpointed, from the first on; None for all. The
            backward pass begins with the last ones, so that what they keep is gone when the others are recomputed.
    """
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):  # transformers >= 5.20
        model.activation_checkpointing_enable(options)
    else:
        model.gradient_checkpointing_enable(options)
    model.disable_input_require_grads()
    if layers is not None:
        for number, layer in enumerate(decoder_layers(model)):
            layer.gradient_checkpointing = number < layers  # type: ignore[assignment]  # read by each layer itself


def disable_gradient_checkpointing(model: PreTrainedModel) -> None:
    """Keeps all activations again."""
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = False  # type: ignore[assignment]


def compile_decoder_layers(model: PreTrainedModel) -> None:
    """Compiles every layer of the language model at its first call, once for all lengths.

    Apart from each other, since the layers share what is compiled, and what stands between them has no need of it.
    """
    for layer in decoder_layers(model):
        layer.compile(dynamic=True)


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The layers of the language model, in order."""
    layers: torch.nn.ModuleList = model.model.language_model.layers
    return layers
