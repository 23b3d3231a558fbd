"""Weights in full precision, to merge an adapter into: as the checkpoint has them, or made from quantised ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xrayexp.models.loading import load_model, resolve_pretrained, stored_quantization

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.utils.quantization_config import QuantizationConfigMixin


def is_stored_quantized(pretrained: str) -> bool:
    """Whether a checkpoint holds quantised weights, so that its full precision is lost."""
    return stored_quantization(pretrained) is not None


def load_dequantized(
    pretrained: str, *, quantization: QuantizationConfigMixin | None, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    """Loads a model quantised, as `load_model` does, and writes the rounded weights out as ordinary numbers.

    Args:
        pretrained: a local folder, a hub id or `pkg://package/path`.
        quantization: how to quantise. A checkpoint that is quantised already is loaded as it is.
        dtype: of all weights of the result.
        device: where the weights go.
    """
    model = load_model(pretrained, quantization=quantization, dtype=dtype, device=device)
    plain: PreTrainedModel = model.dequantize(dtype)
    return plain.requires_grad_(False)


def bytes_of(pretrained: str, dtype: torch.dtype) -> int:
    """Size of all weights in `dtype`, tied ones once, by the architecture alone: no weight is read."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(resolve_pretrained(pretrained))
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    model.tie_weights()
    weights = sum(parameter.numel() for parameter in model.parameters())
    return int(weights) * dtype.itemsize
