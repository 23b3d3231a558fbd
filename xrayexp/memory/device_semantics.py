"""What a device does that tensors on the meta device do not: autocast, and the attention kernels that it chooses.

Both are decided below Python, by dispatch keys that meta tensors lack. Here they are decided above it, for the
functions that models call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten


@dataclass(frozen=True)
class Device:
    """A kind of device.

    Attributes:
        name: cuda or cpu, as autocast calls it.
        fused_attention: the operator behind scaled_dot_product_attention, from its arguments.
    """

    name: str
    fused_attention: Callable[..., torch.Tensor]


class DeviceSemantics(TorchFunctionMode):
    """Makes torch functions on meta tensors behave as on `device`.

    Source of the lists: aten/src/ATen/autocast_mode.h of torch 2.13, for the functions that the models and adapters
    here call. `torch.autocast` itself says whether casts are on, so that code which asks for it hears the truth.
    """

    # In the lower precision.
    LOWER: ClassVar[frozenset[Any]] = frozenset(
        {
            functional.linear,
            functional.conv2d,
            torch.matmul,
            torch.Tensor.matmul,
            torch.Tensor.__matmul__,
            torch.Tensor.__rmatmul__,
            torch.mm,
            torch.Tensor.mm,
            torch.bmm,
            torch.Tensor.bmm,
            torch.addmm,
            torch.Tensor.addmm,
            torch.baddbmm,
            torch.einsum,
        }
    )
    # In float32, on CUDA.
    FULL: ClassVar[frozenset[Any]] = frozenset(
        {
            functional.layer_norm,
            functional.softmax,
            torch.softmax,
            torch.Tensor.softmax,
            functional.log_softmax,
            functional.cross_entropy,
            functional.nll_loss,
            torch.pow,
            torch.Tensor.pow,
            torch.Tensor.__pow__,
            torch.rsqrt,
            torch.Tensor.rsqrt,
            torch.exp,
            torch.Tensor.exp,
            torch.log,
            torch.Tensor.log,
            torch.reciprocal,
            torch.Tensor.reciprocal,
            torch.norm,
            torch.Tensor.norm,
            torch.linalg.norm,
            torch.linalg.vector_norm,
            torch.sum,
            torch.Tensor.sum,
            torch.cumsum,
            torch.Tensor.cumsum,
            torch.prod,
            torch.Tensor.prod,
        }
    )

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device
        self._casts: dict[torch.Tensor, torch.Tensor] = {}  # of trained weights, as autocast caches them

    def forget_casts(self) -> None:
        """What autocast does when it ends."""
        self._casts.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.Tensor.backward, torch.autograd.backward):
            return self._backward(*args, **kwargs)
        attention = func is functional.scaled_dot_product_attention
        if torch.is_autocast_enabled(self.device.name):
            if func in self.LOWER or attention:
                lower = torch.get_autocast_dtype(self.device.name)
                args, kwargs = (
                    self._cast(args, lower),
                    {name: self._cast(value, lower) for name, value in kwargs.items()},
                )
            elif func in self.FULL and self.device.name == "cuda":
                args, kwargs = self._float(func, args, kwargs)
        if attention and _on_meta(args[0]):
            return self.device.fused_attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _backward(self, loss: torch.Tensor, gradient: Any = None, *_: Any, **__: Any) -> None:
        """Runs the engine below `Tensor.backward`, which would switch this mode off for what is recomputed."""
        with self:
            engine = torch.autograd.Variable._execution_engine
            root = torch.ones_like(loss) if gradient is None else gradient
            engine.run_backward((loss,), (root,), False, False, (), allow_unreachable=True, accumulate_grad=True)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(self._cast(item, dtype) for item in value)
        if (
            not isinstance(value, torch.Tensor)
            or not value.is_floating_point()
            or value.dtype in (dtype, torch.float64)
        ):
            return value
        if value.dtype == torch.float32 and value.is_leaf and value.requires_grad and value._base is None:
            if value not in self._casts:
                self._casts[value] = value.to(dtype)
            return self._casts[value]
        return value.to(dtype)

    def _float(self, func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Float32 for the tensors, or for the result where a function takes its type and none is given."""
        if func in _TAKE_A_DTYPE:
            first = args[0] if args else kwargs["input"]
            if first.dtype in (torch.bfloat16, torch.float16) and kwargs.get("dtype") is None:
                return args, {**kwargs, "dtype": torch.float32}
            return args, kwargs
        full = torch.float32
        return self._cast(args, full), {name: self._cast(value, full) for name, value in kwargs.items()}


_TAKE_A_DTYPE = frozenset(
    {
        functional.softmax,
        torch.softmax,
        torch.Tensor.softmax,
        functional.log_softmax,
        torch.sum,
        torch.Tensor.sum,
        torch.cumsum,
        torch.Tensor.cumsum,
        torch.prod,
        torch.Tensor.prod,
    }
)


def _on_meta(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "meta"


def attention_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """The flash attention that torch has for CPUs."""
    mask = _additive(attn_mask, query.dtype)
    out = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale
    )
    return out[0]  # type: ignore[no-any-return]


def _additive(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """A mask of booleans as the kernels take it: numbers to add."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask.logical_not(), float("-inf"))


CPU = Device("cpu", attention_on_cpu)


def attention_on_cuda(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Flash attention where no mask is given and the type allows it, else the memory-efficient kernel."""
    if attn_mask is None and query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] <= _FLASH_HEAD:
        width = query.shape[-1]
        padded = [functional.pad(t, (0, -width % 8)) if width % 8 else t for t in (query, key, value)]
        out = aten._scaled_dot_product_flash_attention(*padded, dropout_p, is_causal, False, scale=scale)
        return out[0][..., :width]  # type: ignore[no-any-return]
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    mask = _additive(attn_mask, query.dtype)
    if mask is not None:
        if (columns := mask.shape[-1]) % _ALIGNED:  # the kernel reads rows of an aligned length
            mask = functional.pad(mask, (0, -columns % _ALIGNED))[..., :columns]
        mask = mask.expand(*query.shape[:3], key.shape[2])
    needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    out = aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, needs_gradient, dropout_p, is_causal, scale=scale
    )
    return out[0]  # type: ignore[no-any-return]


_FLASH_HEAD = 256  # the longest head that flash attention takes
_ALIGNED = 16  # numbers

CUDA = Device("cuda", attention_on_cuda)
