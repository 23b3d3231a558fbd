"""DoRA's arithmetic on a frozen weight: the norm from small factors, and one differentiable function for the layer.

DoRA (Liu et al. 2024, arXiv:2402.09353): y = (m / n) * (W + s B A) x with n = ||W + s B A|| by rows, where n is held
constant in the backward pass (section 4.3). W: [out, in], A: [rank, in], B: [out, rank], m: [out].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from xrayexp.adapters.frozen import FrozenWeight

_BLOCK = 1 << 18  # numbers in a block of activations on a CPU: 1 MiB as float32


def weight_norm(frozen: FrozenWeight, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """||W + s B A|| by rows, [out], in float32, from blocks of rows of W."""
    with torch.no_grad(), torch.autocast(a.device.type, enabled=False):
        squares, transposed = frozen.squared_row_norms(), a.float().t()
        products = torch.cat([block @ transposed for block in frozen.rows()])  # [out, rank]
        return factored_norm(squares, products, a, b, scaling)


def factored_norm(squares: Tensor, products: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """||W + s B A||^2 = ||W||^2 + 2 s <W A^T, B> + s^2 <B A A^T, B> by rows; its root, in float32.

    Where an adapter all but erases a row of W, the terms cancel: a row that is left at 1 % of its norm has a relative
    error of 1e-3 in float32. A row of zeros gets the smallest norm, not 0, so that 0 / 0 does not arise.

    Args:
        squares: ||W||^2 by rows, [out].
        products: W A^T, [out, rank].
        a: [rank, in].
        b: [out, rank].
        scaling: LoRA's scale s.
    """
    a, b = a.float(), b.float()
    change = torch.addmm(products.float(), b, a @ a.t(), beta=2 * scaling, alpha=scaling**2)  # [out, rank]
    norm = change.mul_(b).sum(dim=1).add_(squares)
    return norm.clamp_(min=torch.finfo(torch.float32).tiny).sqrt_()


class DoraFunction(torch.autograd.Function):
    """A DoRA layer without bias, forward and backward, with one dequantised weight at a time.

    The dequantised W serves the base product and W A^T, and goes; the backward pass dequantises it once more, as
    plain LoRA does. What is kept for it is x, which LoRA keeps too, x A^T and y: the magnitude's gradient needs
    u = (n / m) y, and y lives on as the input of what follows, while u would be kept for this alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, m: Tensor, frozen: FrozenWeight, scaling: float) -> Tensor:
        """The layer's output, [rows, out], in the type of x.

        Args:
            ctx: autograd's.
            x: activations, [rows, in], in the type of `frozen`.
            a: [rank, in], any type.
            b: [out, rank], any type.
            m: magnitude, [out], any type.
            frozen: W.
            scaling: LoRA's scale s.
        """
        with torch.autocast(x.device.type, enabled=False):
            low_a, low_b = a.to(x.dtype), b.to(x.dtype)
            dense = frozen.dense()  # [out, in]
            y = x @ dense.t()
            products = dense @ low_a.t()
            squares = frozen.squared_row_norms(dense)
            del dense
            ratio = m.float() / factored_norm(squares, products, a, b, scaling)
            h = x @ low_a.t()  # [rows, rank]
            y.addmm_(h, low_b.t(), alpha=scaling)
            for block in _blocks(y):
                block.mul_(ratio)
        ctx.save_for_backward(x, h, y, a, b, m, ratio)
        ctx.frozen, ctx.scaling = frozen, scaling
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, a, b and m, in their types."""
        x, h, y, a, b, m, ratio = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            grad = grad.contiguous()
            grad_m = _magnitude_gradient(grad, y, m) if ctx.needs_input_grad[3] else None
            scaled = torch.empty_like(grad)  # the gradient of u, [rows, out]
            for block, out in zip(_blocks(grad), _blocks(scaled), strict=True):
                torch.mul(block, ratio, out=out)
            grad_h = (scaled @ b.to(grad.dtype)).mul_(ctx.scaling)  # [rows, rank]
            grad_a = (grad_h.t() @ x).to(a.dtype) if ctx.needs_input_grad[1] else None
            grad_b = (scaled.t() @ h).to(b.dtype).mul_(ctx.scaling) if ctx.needs_input_grad[2] else None
            grad_x = None
            if ctx.needs_input_grad[0]:
                grad_x = (scaled @ ctx.frozen.dense()).addmm_(grad_h, a.to(grad.dtype))
        return grad_x, grad_a, grad_b, grad_m, None, None


def _magnitude_gradient(grad: Tensor, y: Tensor, m: Tensor) -> Tensor:
    """sum over rows of grad * u / n, which is grad * y / m, [out]. A magnitude of exactly 0 stays where it is."""
    total = torch.zeros_like(m, dtype=torch.float32)
    for block, out in zip(_blocks(grad), _blocks(y), strict=True):
        total += (block * out).sum(dim=0, dtype=torch.float32)
    return torch.where(m == 0, 0.0, total / m).to(m.dtype)


def _blocks(rows: Tensor) -> Iterator[Tensor]:
    """[rows, out] in blocks of rows: where types differ, CPU kernels first copy their operands to the wider type."""
    one_pass = rows.device.type != "cpu"
    yield from rows.split(max(1, len(rows) if one_pass else _BLOCK // rows.shape[1]))
