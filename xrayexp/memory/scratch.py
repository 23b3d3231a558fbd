"""What operators allocate inside their kernels, beside their results: known for those that matter.

Source: the kernels' code in torch 2.13 and bitsandbytes 0.50.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import torch

from xrayexp.memory.trace import Scratch

_GEMV_ROWS = 4  # up to so many rows bitsandbytes multiplies without dequantising


def scratch_of_kernels(device: str) -> Mapping[Any, Scratch]:
    """By operator, on `cuda` or `cpu`."""
    import bitsandbytes  # noqa: F401  # registers its operators

    gemm_4bit = torch.ops.bitsandbytes.gemm_4bit.default
    most_rows = _GEMV_ROWS if device == "cuda" else 0
    table: dict[Any, Scratch] = {gemm_4bit: partial(_gemm_4bit, most_rows)}
    if device == "cuda":
        table[torch.ops.aten.masked_scatter.default] = _masked_scatter
        table[torch.ops.aten._scaled_dot_product_efficient_attention_backward.default] = _attention_backward
        table[torch.ops.aten._scaled_dot_product_flash_attention_backward.default] = _attention_backward
    return table


def _gemm_4bit(
    most_rows: int,
    a: torch.Tensor,
    b: torch.Tensor,
    shape: Sequence[int],
    absmax: torch.Tensor,
    blocksize: int,
    quant_type: str,
    bias: torch.Tensor | None = None,
    absmax_8bit: torch.Tensor | None = None,
    *_: Any,
    **__: Any,
) -> Iterable[int]:
    """The dequantised weight and its scales, beyond `most_rows` rows.

    For some shapes a GPU has a kernel without: this is the larger case.
    """
    if a.numel() // a.shape[-1] <= most_rows:
        return ()
    scales = 0 if absmax_8bit is None else 4 * absmax_8bit.numel()
    return (scales + a.element_size() * prod(shape),)


def _masked_scatter(destination: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> Iterable[int]:
    """The running count of the mask, and the mask and the result expanded."""
    return (8 * destination.numel() + destination.numel(),)


def _attention_backward(gradient: torch.Tensor, query: torch.Tensor, *_: Any, **__: Any) -> Iterable[int]:
    """The row sums of output times gradient, in float32 [batch, heads, queries]."""
    return (4 * prod(query.shape[:3]),)
