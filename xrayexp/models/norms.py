"""Gemma 3's RMS norms with a backward pass of their own.

Autograd keeps five tensors of every norm, most of them in float32, and goes back through seven operators. Here the
input is kept, and one number for every token. The forward pass is transformers' to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm


class RmsNormFunction(torch.autograd.Function):
    """y = (1 + w) x / sqrt(mean(x^2) + eps) over the last axis, in float32, for a frozen w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """The norm, in the shape and type of x.

        Args:
            ctx: autograd's.
            x: [..., width].
            weight: w, [width].
            eps: keeps the root from zero.
        """
        full = x.float()
        inverse = full.pow(2).mean(-1, keepdim=True).add_(eps).rsqrt_()  # [..., 1]
        ctx.save_for_backward(x, weight, inverse)
        return (full * inverse).mul_(1.0 + weight.float()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of x, in its type: with n = x / rms(x) and g = (1 + w) grad, (g - n mean(g n)) / rms(x)."""
        x, weight, inverse = ctx.saved_tensors
        scaled, normed = grad.float() * (1.0 + weight.float()), x.float() * inverse
        inner = (scaled * normed).mean(-1, keepdim=True)
        return normed.mul_(inner).sub_(scaled).mul_(-inverse).to(x.dtype), None, None


class FusedGemma3RMSNorm(Gemma3RMSNorm):
    """transformers' norm for a frozen weight; one that is trained goes transformers' way."""

    def forward(self, x: Tensor) -> Tensor:
        """The norm of x, [..., width]."""
        if self.weight.requires_grad:
            return super().forward(x)  # type: ignore[no-any-return]
        return RmsNormFunction.apply(x, self.weight, self.eps)  # type: ignore[no-any-return, no-untyped-call]


def fuse_norms(model: nn.Module) -> int:
    """Gives a Gemma 3 model the norms of this module, in place; returns how many there are."""
    norms = [module for module in model.modules() if type(module) is Gemma3RMSNorm]
    for norm in norms:
        norm.__class__ = FusedGemma3RMSNorm
    return len(norms)
