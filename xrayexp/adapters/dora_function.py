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
    plain LoRA does. What is kept beyond LoRA's x and x A^T is W x, which the magnitude's gradient needs. The output
    could stand in for it, but for its second rounding, which makes that gradient less exact than PEFT's.
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
            low_a = a.to(x.dtype)
            dense = frozen.dense()  # [out, in]
            base = x @ dense.t()
            products = dense @ low_a.t()
            squares = frozen.squared_row_norms(dense)
            del dense
            norm = factored_norm(squares, products, a, b, scaling)
            h = x @ low_a.t()  # [rows, rank]
            y = torch.empty_like(base) if ctx.needs_input_grad[3] else base
            _add_and_scale(base, h, b, scaling, m.float() / norm, y, _rows_at_a_time(x.shape[1]))
        ctx.save_for_backward(x, h, base if y is not base else None, a, b, m, norm)
        ctx.frozen, ctx.scaling = frozen, scaling
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, a, b and m, in their types."""
        x, h, base, a, b, m, norm = ctx.saved_tensors
        needed = ctx.needs_input_grad
        grad_x = grad_a = grad_b = grad_m = None
        with torch.autocast(grad.device.type, enabled=False):
            ratio = m.float() / norm
            if needed[2] or needed[3]:
                grad_b, sums = _gradient_of_b(grad, h, b, ctx.scaling, ratio)
            if needed[3]:
                sums += _column_sums(grad, base, _rows_at_a_time(x.shape[1]))
                grad_m = (sums / norm).to(m.dtype)
            grad_h = grad @ (ctx.scaling * ratio[:, None] * b).to(grad.dtype)  # [rows, rank]
            if needed[1]:
                grad_a = (grad_h.t() @ x).to(a.dtype)
            if needed[0]:
                scaled = _scaled(grad, ratio, _rows_at_a_time(x.shape[1]))  # before there is a dense weight
                grad_x = (scaled @ ctx.frozen.dense()).addmm_(grad_h, a.to(grad.dtype))
        return grad_x, grad_a, grad_b, grad_m, None, None


def _add_and_scale(base: Tensor, h: Tensor, b: Tensor, scaling: float, ratio: Tensor, y: Tensor, rows: int) -> None:
    """y <- ratio * (base + s h B^T), in float32 and rounded once; y: [rows, out], h: [rows, rank], ratio: [out]."""
    transposed = b.float().t()
    for block, small, out in _blocks(rows, base, h, y):
        total = torch.addmm(block.float(), small.float(), transposed, alpha=scaling)
        out.copy_(total.mul_(ratio))


def _gradient_of_b(grad: Tensor, h: Tensor, b: Tensor, scaling: float, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of B, [out, rank], and sums over rows of grad * (s h B^T), in float32, [out]."""
    outer = (grad.t() @ h).float().mul_(scaling)
    sums = (outer * b).sum(dim=1)
    return outer.mul_(ratio[:, None]).to(b.dtype), sums


def _column_sums(grad: Tensor, base: Tensor, rows: int) -> Tensor:
    """Sums over rows of grad * base, in float32, [out]."""
    total = torch.zeros(grad.shape[1], device=grad.device)
    for block, factor in _blocks(rows, grad, base):
        total += (block.float() * factor).sum(dim=0)
    return total


def _scaled(grad: Tensor, ratio: Tensor, rows: int) -> Tensor:
    """grad * ratio in the type of grad, [rows, out]."""
    if grad.dtype == ratio.dtype:
        return grad * ratio
    scaled = torch.empty_like(grad)
    for block, out in _blocks(rows, grad, scaled):
        out.copy_(block.float().mul_(ratio))
    return scaled


def _rows_at_a_time(width: int) -> int:
    """Rows of activations of which two float32 copies, [rows, out], are as large as a bfloat16 weight, [out, width]."""
    return max(1, width // 4)


def _blocks(rows: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of as many rows each, in blocks of `rows` rows."""
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)
