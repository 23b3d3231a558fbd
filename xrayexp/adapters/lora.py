"""LoRA on PEFT's own layers as one differentiable function: parameters, names, saving and merging stay PEFT's.

LoRA (Hu et al. 2022): y = W x + s B A x. PEFT copies W x, multiplies, scales and adds one after the other, and autograd
keeps a node and a tensor for each. Here the product is added where W x lies, and likewise in the backward pass.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft.tuners.lora.bnb import Linear4bit
from peft.tuners.lora.layer import Linear
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from xrayexp.adapters.frozen import FrozenWeight


class LoraFunction(torch.autograd.Function):
    """A LoRA layer, forward and backward, around its base layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, frozen: FrozenWeight, scaling: float) -> Tensor:
        """The layer's output, [rows, out], in the type of x.

        Args:
            ctx: autograd's.
            x: activations, [rows, in].
            a: [rank, in], any type.
            b: [out, rank], any type.
            frozen: W; its layer is called, so that its bias and, for few rows, its own kernel are used.
            scaling: s.
        """
        with _plain_arithmetic(x):
            y = functional.linear(x, frozen.dense().to(x.dtype), frozen.layer.bias)
            h = x @ a.to(x.dtype).t()  # [rows, rank]
            y.addmm_(h, b.to(x.dtype).t(), alpha=scaling)
        ctx.save_for_backward(x, h, a, b)
        ctx.frozen, ctx.scaling = frozen, scaling
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, a and b, in their types."""
        x, h, a, b = ctx.saved_tensors
        needed = ctx.needs_input_grad
        grad_x = grad_a = grad_b = None
        with _plain_arithmetic(grad):
            grad_h = (grad @ b.to(grad.dtype)).mul_(ctx.scaling)  # [rows, rank]
            if needed[1]:
                grad_a = (grad_h.t() @ x).to(a.dtype)
            if needed[2]:
                grad_b = (grad.t() @ h).mul_(ctx.scaling).to(b.dtype)
            if needed[0]:
                grad_x = (grad @ ctx.frozen.dense().to(grad.dtype)).addmm_(grad_h, a.to(grad.dtype))
        return grad_x, grad_a, grad_b, None, None


def _plain_arithmetic(x: Tensor) -> AbstractContextManager[Any]:
    """Without autocast; where there is none, switching it off would take longer than a small layer's products."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _fusing(parent: Any) -> Any:
    """A subclass of one of PEFT's LoRA layers whose instances `parent`'s can become."""

    class Fused(parent):  # type: ignore[misc]
        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            asked = args or any(value is not None for value in kwargs.values())
            name = None if asked or torch.compiler.is_compiling() else _single_lora(self)
            if name is None or not _in_one_type(self, x, name):
                return super().forward(x, *args, **kwargs)  # type: ignore[no-any-return]
            a, b = self.lora_A[name].weight, self.lora_B[name].weight
            frozen = FrozenWeight(self.base_layer)
            y = LoraFunction.apply(x.reshape(-1, x.shape[-1]), a, b, frozen, self.scaling[name])  # type: ignore[no-untyped-call]
            return y.view(*x.shape[:-1], -1)  # type: ignore[no-any-return]

    Fused.__name__ = Fused.__qualname__ = f"Fused{parent.__name__}"
    return Fused


# Under these names, or pickle would not find them.
FusedLinear4bit = _fusing(Linear4bit)
FusedLinear = _fusing(Linear)
_FUSED = {Linear4bit: FusedLinear4bit, Linear: FusedLinear}


def _single_lora(layer: Any) -> str | None:
    """The active adapter, if there is one, it is plain LoRA, and nothing is merged, dropped or switched off."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(active) != 1:
        return None
    [name] = active
    if name in layer.lora_variant or layer.lora_B[name].bias is not None:
        return None
    return name if isinstance(layer.lora_dropout[name], torch.nn.Identity) or not layer.training else None


def _in_one_type(layer: Any, x: Tensor, name: str) -> bool:
    """Whether the base layer's output and the adapter's products have the type of x, so that nothing is cast."""
    device = x.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    multiplied = autocast or layer.lora_A[name].weight.dtype
    base = layer.base_layer.weight.dtype if autocast is None and isinstance(layer, Linear) else multiplied
    return x.dtype == multiplied == base


def fuse_lora(model: torch.nn.Module) -> int:
    """Lets the LoRA layers of a PEFT model on frozen linear layers, 4-bit or not quantised, be one function each.

    A layer goes PEFT's way whenever it does more: dropout, DoRA and other variants, several active adapters, arithmetic
    in more than one type; and under torch.compile, which fuses by itself.

    Returns:
        The number of layers that were changed.
    """
    layers = [layer for layer in model.modules() if type(layer) in _FUSED and FrozenWeight.of(_base(layer))]
    for layer in layers:
        layer.__class__ = _FUSED[type(layer)]
    return len(layers)


def _base(layer: Any) -> torch.nn.Module:
    return layer.get_base_layer()  # type: ignore[no-any-return]
