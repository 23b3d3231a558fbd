"""LoRA on PEFT's own layers as one differentiable function: parameters, names, saving and merging stay PEFT's.

LoRA (Hu et al. 2022, arXiv:2106.09685): y = W x + s B A x. PEFT copies W x, multiplies, scales and adds one after the
other, and autograd keeps a node and tensors for each. Here the product is added where W x lies, and the gradient of A x
where that of W x does.
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

from xrayexp.adapters.bypass import adapter_dtype, bypassed
from xrayexp.adapters.frozen import FrozenWeight


class LoraFunction(torch.autograd.Function):
    """A LoRA layer, forward and backward, with one dequantised weight at a time; kept are x and A x, as in PEFT."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, frozen: FrozenWeight, scaling: float) -> Tensor:
        """The layer's output, [..., out], in the type of x.

        Args:
            ctx: autograd's.
            x: activations, [..., in], in the type of `frozen`.
            a: [rank, in], any type.
            b: [out, rank], any type.
            frozen: W; its layer's bias is added.
            scaling: s.
        """
        rows = x.reshape(-1, x.shape[-1])
        with _without_autocast(x):
            bias = frozen.layer.bias
            y = functional.linear(rows, frozen.dense(), None if bias is None else bias.to(x.dtype))
            h = rows @ a.to(x.dtype).t()  # [rows, rank]
            y.addmm_(h, b.to(x.dtype).t(), alpha=scaling)
        ctx.save_for_backward(x, h, a, b)
        ctx.frozen, ctx.scaling = frozen, scaling
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, a and b, in their types."""
        x, h, a, b = ctx.saved_tensors
        needed = ctx.needs_input_grad
        grad_x = grad_a = grad_b = None
        rows = grad.reshape(-1, grad.shape[-1])
        with _without_autocast(grad):
            grad_h = (rows @ b.to(grad.dtype)).mul_(ctx.scaling)  # [rows, rank]
            if needed[1]:
                grad_a = (grad_h.t() @ x.reshape(-1, x.shape[-1])).to(a.dtype)
            if needed[2]:
                grad_b = (rows.t() @ h).mul_(ctx.scaling).to(b.dtype)
            if needed[0]:
                grad_x = (rows @ ctx.frozen.dense()).addmm_(grad_h, a.to(grad.dtype)).view(x.shape)
        return grad_x, grad_a, grad_b, None, None


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Switching off what is off already would take as long as a small layer's product."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _fusing(parent: Any) -> Any:
    """A subclass of one of PEFT's LoRA layers whose instances `parent`'s can become."""

    class Fused(parent):  # type: ignore[misc]
        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            asked = args or any(value is not None for value in kwargs.values())
            y = None if asked or torch.compiler.is_compiling() else _fused(self, x)
            return super().forward(x, *args, **kwargs) if y is None else y

    Fused.__name__ = Fused.__qualname__ = f"Fused{parent.__name__}"
    return Fused


# Under these names, or pickle would not find them.
FusedLinear4bit = _fusing(Linear4bit)
FusedLinear = _fusing(Linear)
_FUSED: dict[type, Any] = {Linear4bit: FusedLinear4bit, Linear: FusedLinear}


def _fused(layer: Any, x: Tensor) -> Tensor | None:
    """The output of a layer with one active adapter as one function, [..., out]; None where that is not possible.

    Without gradients nothing is won, and for few rows the base layer has faster kernels on a GPU.
    """
    name = _single_lora(layer) if torch.is_grad_enabled() else None
    if name is None:
        return None
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    dtype = adapter_dtype(x, a)
    frozen = bypassed(layer, x, dtype) if x.dtype == dtype else None
    if frozen is None:
        return None
    return LoraFunction.apply(x, a, b, frozen, layer.scaling[name])  # type: ignore[no-any-return, no-untyped-call]


def _single_lora(layer: Any) -> str | None:
    """The active adapter, if there is one, it is plain LoRA, and nothing is merged, dropped or switched off."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(active) != 1:
        return None
    [name] = active
    if name in layer.lora_variant or layer.lora_B[name].bias is not None:
        return None
    return name if isinstance(layer.lora_dropout[name], torch.nn.Identity) or not layer.training else None


def fuse_lora(model: torch.nn.Module) -> int:
    """Lets the LoRA layers of a PEFT model on frozen linear layers, 4-bit or not quantised, be one function each.

    A layer goes PEFT's way whenever it does more: dropout, DoRA and other variants, several active adapters, arithmetic
    in more than one type; and under torch.compile, which fuses by itself.

    Returns:
        The number of layers that were changed.
    """
    layers: list[Any] = [layer for layer in model.modules() if type(layer) in _FUSED]
    frozen = [layer for layer in layers if FrozenWeight.of(layer.get_base_layer())]
    for layer in frozen:
        layer.__class__ = _FUSED[type(layer)]
    return len(frozen)
