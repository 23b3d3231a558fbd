"""A model of full size with random weights, for machines that have no checkpoint: what it needs is real, what it says
is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from xrayexp.models.skeleton import empty_model
from xrayexp.progress import watch

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.utils.quantization_config import QuantizationConfigMixin


def random_model(
    config: PretrainedConfig,
    *,
    quantization: QuantizationConfigMixin | None,
    dtype: torch.dtype,
    device: torch.device,
    attention: str = "sdpa",
    seed: int = 0,
) -> PreTrainedModel:
    """The model of a config as `load_model` would leave it, frozen, with the weights that transformers begins with.

    It is filled layer by layer, and a layer is quantised before the next one is there: at no time is there more than
    the model as it is in the end, one layer of it in `dtype` and what bitsandbytes needs to quantise that.

    Args:
        config: of `load_config`.
        quantization: as in `load_model`; a 4-bit one or None.
        dtype: type of the weights that are not quantised, and of those that are before they are.
        device: where the weights go.
        attention: transformers' attention implementation.
        seed: of the weights.

    Raises:
        ConfigError: for a quantisation other than 4-bit.
    """
    model: Any = empty_model(config, quantization=quantization, dtype=dtype, attention=attention)
    tied = model.get_output_embeddings() if config.tie_word_embeddings else None
    layers = [(owner, layer) for owner, layer in _inside_out(model, model) if _is_empty(layer) and layer is not tied]
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        for owner, layer in watch("random weights", layers, len(layers)):
            _fill(owner, layer, dtype, device)
    model.tie_weights()
    if quantization is not None:
        _mark_quantized(model, quantization)
    filled: PreTrainedModel = model.requires_grad_(False).eval()
    return filled


def _inside_out(owner: PreTrainedModel, module: torch.nn.Module) -> Iterator[tuple[PreTrainedModel, torch.nn.Module]]:
    """Every module after those inside it, each with the model that knows how it begins."""
    from transformers import PreTrainedModel

    for child in module.children():
        yield from _inside_out(child if isinstance(child, PreTrainedModel) else owner, child)
    yield owner, module


def _is_empty(module: torch.nn.Module) -> bool:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(tensor.is_meta for tensor in own)


def _fill(owner: Any, layer: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Makes a layer's own weights and buffers, and quantises those that are to be in 4 bits."""
    from bitsandbytes.nn.modules import Linear4bit

    for name, parameter in layer.named_parameters(recurse=False):
        content = torch.empty(parameter.shape, dtype=dtype, device=device)
        setattr(layer, name, type(parameter)(content, requires_grad=False, **parameter.__dict__))
    for name, buffer in layer.named_buffers(recurse=False):
        layer._buffers[name] = torch.empty_like(buffer, device=device)
    # Not for its weights alone: positions, rotary frequencies and the embeddings' scale are computed here as well.
    owner._init_weights(layer)
    if (projection := getattr(layer, "mm_input_projection_weight", None)) is not None:
        # Zero in transformers: nothing of an image would reach the language model, and no gradient the vision tower.
        projection.normal_(std=owner.config.initializer_range)
    if isinstance(layer, Linear4bit):
        weight: Any = layer.weight
        layer.weight = weight.to(device)  # quantises


def _mark_quantized(model: Any, quantization: Any) -> None:
    """What transformers notes on a model that it quantised while loading, so that it can be saved and trained."""
    from transformers.quantizers.auto import AutoHfQuantizer

    model.hf_quantizer = AutoHfQuantizer.from_config(quantization, pre_quantized=False)
    model.is_quantized, model.quantization_method = True, quantization.quant_method
    model.hf_quantizer.postprocess_model(model)
