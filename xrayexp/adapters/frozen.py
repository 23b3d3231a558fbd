"""The weight of a frozen linear layer as numbers, however it is stored, and the norms of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import bitsandbytes as bnb
import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_BLOCK = 1 << 20  # numbers in a block of rows: 4 MiB as float32
_Storage: TypeAlias = tuple[Any, ...]

# Squared row norms by weight. They are no attribute of the layer, so that deepcopy, pickle and state_dict never see
# them, and they go when the weight goes.
_SQUARES: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


@dataclass(frozen=True)
class FrozenWeight:
    """A linear layer's weight, [out, in], that is 4-bit, 8-bit or not quantised.

    Attributes:
        layer: the base layer that holds it: a torch.nn.Linear or one of its quantised subclasses.
    """

    layer: Any

    @classmethod
    def of(cls, layer: torch.nn.Module) -> FrozenWeight | None:
        """The layer's weight; None if the layer is of another kind, is trained, or is not quantised yet."""
        if not isinstance(layer, Linear4bit | Linear8bitLt) and type(layer) is not torch.nn.Linear:
            return None
        weight = layer.weight
        if weight.requires_grad:
            return None
        if isinstance(layer, Linear4bit):
            state = getattr(weight, "quant_state", None)
            # A CPU layer that was repacked for inference can no longer be dequantised (bitsandbytes 0.50).
            if state is None or getattr(state, "packing_format_for_cpu", False):
                return None
            return cls(layer) if tuple(state.shape) == (layer.out_features, layer.in_features) else None
        if weight.dtype == torch.int8 and _scales(layer) is None:
            return None
        return cls(layer)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers that the stored weight stands for."""
        weight = self.layer.weight
        if isinstance(self.layer, Linear4bit):
            dtype: torch.dtype = weight.quant_state.dtype
        else:
            dtype = torch.float32 if weight.dtype == torch.int8 else weight.dtype
        return dtype

    def dense(self) -> Tensor:
        """The whole weight, [out, in]: a new tensor where it is quantised."""
        weight = self.layer.weight
        if isinstance(self.layer, Linear4bit):
            dense: Tensor = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
        elif weight.dtype == torch.int8:
            dense = torch.cat(list(self.rows()))
        else:
            dense = weight.data
        return dense

    def rows(self) -> Iterator[Tensor]:
        """The weight in blocks of rows, [block, in], in float32. 8-bit weights never exist as a whole."""
        block = max(1, _BLOCK // self.layer.in_features)
        if self.layer.weight.dtype == torch.int8 and not isinstance(self.layer, Linear4bit):
            scales = _scales(self.layer)
            assert scales is not None  # or there would be no FrozenWeight
            for part, scale in zip(self.layer.weight.data.split(block), scales.split(block), strict=True):
                yield bnb.functional.int8_vectorwise_dequant(part, scale)
        else:
            yield from row_blocks(self.dense())

    def squared_row_norms(self, dense: Tensor | None = None) -> Tensor:
        """Squared norms of the rows, [out], in float32; computed once for a weight.

        The weight is frozen, so nothing that an optimiser does makes them stale. They are computed anew once the
        weight is another one (merging, moving, loading); code that changes the same memory calls `forget`.

        Args:
            dense: the weight, [out, in], where the caller has it already.
        """
        weight, storage = self.layer.weight, self._storage()
        known = _SQUARES.get(weight)
        if known is not None and known[0] == storage:
            squares: Tensor = known[1]
            return squares
        with torch.inference_mode(False), torch.no_grad():
            blocks = self.rows() if dense is None else row_blocks(dense)
            squares = torch.cat([block.square().sum(dim=1) for block in blocks])
        _SQUARES[weight] = (storage, squares)
        return squares

    def forget(self) -> None:
        """Drops the norms, because the weight was changed in place."""
        _SQUARES.pop(self.layer.weight, None)

    def _storage(self) -> _Storage:
        """What changes when the same parameter comes to hold other numbers.

        The version is that of the frozen base weight, which load_state_dict bumps. For trained tensors it would not
        do: fused and bitsandbytes optimisers leave it as it is.
        """
        weight = self.layer.weight
        version = 0 if weight.is_inference() else weight._version
        scales = weight.quant_state.absmax if isinstance(self.layer, Linear4bit) else None
        return weight.data_ptr(), version, None if scales is None else scales.data_ptr(), self.dtype


def row_blocks(dense: Tensor) -> Iterator[Tensor]:
    """A matrix in blocks of rows, in float32."""
    return (block.float() for block in dense.split(max(1, _BLOCK // dense.shape[1])))


def _scales(layer: Any) -> Tensor | None:
    """The row scales of an 8-bit layer: its first forward pass moves them from the weight to the layer's state."""
    state: Any = getattr(layer, "state", None)
    scales = state.SCB if state is not None and state.SCB is not None else getattr(layer.weight, "SCB", None)
    return None if scales is None else scales.to(layer.weight.device)
