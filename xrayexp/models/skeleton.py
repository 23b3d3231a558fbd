"""A model of full size without weights: every parameter on the meta device, as `load_model` would leave it on a GPU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from xrayexp.errors import ConfigError
from xrayexp.models.loading import resolve_pretrained

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.utils.quantization_config import QuantizationConfigMixin

_SCALES_BLOCK = 256  # scales of 4-bit blocks that share one scale of their own, in double quantisation


def load_config(pretrained: str, architecture: str | None) -> PretrainedConfig:
    """The model's config, from its checkpoint where that is at hand, else the one that ships with this package.

    Args:
        pretrained: as in `load_model`.
        architecture: a folder with a config.json, `pkg://` or not, that is used when `pretrained` cannot be reached
            without a download; None where there is none.

    Raises:
        ConfigError: neither is there.
    """
    from transformers import AutoConfig

    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(resolve_pretrained(pretrained), local_files_only=True)
    except OSError:
        if architecture is None:
            raise ConfigError(
                [f"model.pretrained: the config of {pretrained} is not on this machine, and model.architecture is null"]
            ) from None
        config = AutoConfig.from_pretrained(resolve_pretrained(architecture))
    return config


def skeleton(
    config: PretrainedConfig,
    *,
    quantization: QuantizationConfigMixin | None,
    dtype: torch.dtype,
    attention: str = "sdpa",
) -> PreTrainedModel:
    """The model of a config with all its parameters on the meta device, frozen, quantised where it would be.

    Args:
        config: of `load_config`.
        quantization: as in `load_model`; a 4-bit one or None.
        dtype: type of the weights that are not quantised.
        attention: transformers' attention implementation.

    Raises:
        ConfigError: for a quantisation other than 4-bit.
    """
    from bitsandbytes.nn.modules import Linear4bit

    model = empty_model(config, quantization=quantization, dtype=dtype, attention=attention)
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            _pack(layer, quantization, dtype)
    return model


def empty_model(
    config: PretrainedConfig,
    *,
    quantization: QuantizationConfigMixin | None,
    dtype: torch.dtype,
    attention: str = "sdpa",
) -> PreTrainedModel:
    """The model of a config on the meta device, frozen; the layers that 4 bits are for are there, yet unquantised.

    Args:
        config: of `load_config`.
        quantization: as in `load_model`; a 4-bit one or None.
        dtype: type of the weights that are not quantised.
        attention: transformers' attention implementation.

    Raises:
        ConfigError: for a quantisation other than 4-bit.
    """
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(
            config, dtype=dtype, attn_implementation=attention
        )
    if quantization is not None:
        if not getattr(quantization, "load_in_4bit", False):
            raise ConfigError(
                ["memory is predicted, and a model made without weights, for quantization=nf4 or none, not for int8"]
            )
        _replace_linears(model, quantization, dtype)
    return model.requires_grad_(False)


def _replace_linears(model: PreTrainedModel, quantization: Any, dtype: torch.dtype) -> None:
    """Replaces linear layers as transformers does while it loads."""
    from bitsandbytes.nn.modules import Linear4bit
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    quantization.bnb_4bit_compute_dtype = dtype
    replace_with_bnb_linear(model, get_keys_to_not_convert(model), quantization)
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False  # as in load_model


def _pack(layer: Any, quantization: Any, dtype: torch.dtype) -> None:
    """Gives a layer packed weights of the right size."""
    from bitsandbytes.nn.modules import Params4bit

    rows, columns = layer.out_features, layer.in_features
    packed = torch.empty((rows * columns + 1) // 2, 1, dtype=torch.uint8, device="meta")
    state = _quant_state(rows, columns, quantization, dtype)
    layer.weight = Params4bit(packed, quant_state=state, quant_type=state.quant_type, bnb_quantized=True, module=layer)
    # PEFT copies a layer to measure its norms; bitsandbytes cannot copy what has no content.
    layer.weight.__deepcopy__ = partial(_itself, layer.weight)
    layer.quant_state = state
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter(layer.bias.to(dtype), requires_grad=False)


def _itself(weight: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    return weight


def _quant_state(rows: int, columns: int, quantization: Any, dtype: torch.dtype) -> QuantState:
    from bitsandbytes.functional import QuantState

    blocksize = 64
    blocks = -(-rows * columns // blocksize)
    common = {
        "shape": torch.Size((rows, columns)),
        "code": torch.empty(16, device="meta"),
        "blocksize": blocksize,
        "quant_type": quantization.bnb_4bit_quant_type,
        "dtype": dtype,
    }
    if not quantization.bnb_4bit_use_double_quant:
        return QuantState(absmax=torch.empty(blocks, device="meta"), **common)
    scales = QuantState(
        absmax=torch.empty(-(-blocks // _SCALES_BLOCK), device="meta"),
        code=torch.empty(256, device="meta"),
        blocksize=_SCALES_BLOCK,
        dtype=torch.float32,
    )
    absmax = torch.empty(blocks, dtype=torch.uint8, device="meta")
    return QuantState(absmax=absmax, offset=torch.empty((), device="meta"), state2=scales, **common)


def weight_tensors(model: torch.nn.Module) -> dict[str, list[torch.Tensor]]:
    """All tensors that a model's weights consist of, scales of quantised ones included, by kind.

    Returns:
        `quantized`, `embeddings`, `other`: frozen weights; `trained`: those that require gradients.
    """
    from bitsandbytes.nn.modules import Params4bit

    kinds: dict[str, list[torch.Tensor]] = {"quantized": [], "embeddings": [], "other": [], "trained": []}
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for parameter in model.parameters():
        if isinstance(parameter, Params4bit):
            kinds["quantized"] += [parameter.data, *_state_tensors(parameter.quant_state)]
        elif parameter.requires_grad:
            kinds["trained"].append(parameter)
        else:
            kinds["embeddings" if id(parameter) in embedded else "other"].append(parameter)
    kinds["other"] += list(model.buffers())
    return kinds


def _state_tensors(state: Any) -> list[torch.Tensor]:
    own = [value for value in (state.absmax, state.code, state.offset) if isinstance(value, torch.Tensor)]
    return own + (_state_tensors(state.state2) if state.state2 is not None else [])
