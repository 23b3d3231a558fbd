"""When an adapted layer may compute its base layer's part itself, from the weight."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.bnb import Linear4bit, Linear8bitLt
from torch import Tensor

from xrayexp.adapters.frozen import FrozenWeight


def adapter_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The type in which PEFT multiplies by the adapter's matrices.

    Args:
        x: activations.
        weight: one of these matrices.
    """
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def bypassed(layer: Any, x: Tensor, dtype: torch.dtype) -> FrozenWeight | None:
    """The weight, if the base layer need not be called: nothing is hooked to it, and all is computed in `dtype`.

    Args:
        layer: one of PEFT's LoRA layers.
        x: its input.
        dtype: of `adapter_dtype`.
    """
    base = layer.base_layer
    if base._forward_hooks or base._forward_pre_hooks or "forward" in vars(base):
        return None
    frozen = FrozenWeight.of(base)
    if frozen is None or frozen.dtype != dtype or x.device != base.weight.device:
        return None
    if isinstance(layer, Linear4bit):  # it casts its input: to a type of its own or, before the first pass, to any
        computed = (base.compute_dtype or x.dtype) if base.compute_type_is_set else None
    elif isinstance(layer, Linear8bitLt):
        computed = None  # on a GPU it multiplies integers
    else:
        computed = dtype if torch.is_autocast_enabled(x.device.type) else x.dtype
    return frozen if computed == dtype else None
