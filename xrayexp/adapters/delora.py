"""DeLoRA (Bini et al. 2025, arXiv:2503.18225) on 4-bit and 8-bit layers: PEFT's own code on the dequantised weight.

PEFT 0.21 takes packed weights for numbers. Norms of bytes do not exist, and norms of 4-bit weights that are stored as
bfloat16 are NaN; merging adds to the packed bytes. The forward pass needs no change: it calls the base layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.delora import DeloraConfig, DeloraLinear, DeloraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import resolve_quantization_backend


class QuantizedDeloraLinear(DeloraLinear):
    """PEFT's DeLoRA layer around a quantised one."""

    def reset_delora_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Initialises an adapter and takes the norms of the weight's columns, [in]; the arguments are PEFT's."""
        with self._dequantized():
            super().reset_delora_parameters(*args, **kwargs)

    def merge(self, *args: Any, **kwargs: Any) -> None:
        """Adds the adapter to the weight, which is quantised anew; the arguments are PEFT's."""
        with self._dequantized() as plain:
            super().merge(*args, **kwargs)
        self._quantize(plain)

    def unmerge(self) -> None:
        """Takes the adapter out of the weight, which is quantised anew."""
        with self._dequantized() as plain:
            super().unmerge()
        self._quantize(plain)

    @contextmanager
    def _dequantized(self) -> Iterator[torch.nn.Linear]:
        """Meanwhile the base layer is a plain one."""
        quantized = self.base_layer
        backend = resolve_quantization_backend(self.get_base_layer())
        assert backend is not None  # or this class would not have been chosen
        plain = torch.nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        dense = backend.get_base_weight(self.get_base_layer()).detach()
        plain.weight = torch.nn.Parameter(dense, requires_grad=False)
        self.base_layer = plain
        try:
            yield plain
        finally:
            self.base_layer = quantized

    def _quantize(self, plain: torch.nn.Linear) -> None:
        backend = resolve_quantization_backend(self.get_base_layer())
        assert backend is not None
        backend.set_base_weight(self, plain.weight.data)


class QuantizedDeloraModel(DeloraModel):
    """PEFT's DeLoRA with layers of its own around quantised ones."""

    @staticmethod
    def _create_new_module(
        delora_config: DeloraConfig, adapter_name: str, target: torch.nn.Module, **kwargs: Any
    ) -> DeloraLinear:
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not isinstance(base, Linear4bit | Linear8bitLt):
            plain: DeloraLinear = DeloraModel._create_new_module(delora_config, adapter_name, target, **kwargs)
            return plain
        layer: DeloraLinear = QuantizedDeloraLinear(target, adapter_name, config=delora_config, **kwargs)
        return layer


@contextmanager
def quantized_delora() -> Iterator[None]:
    """Meanwhile PEFT makes DeLoRA adapters that understand quantised layers; other methods are as ever."""
    stock = PEFT_TYPE_TO_TUNER_MAPPING[PeftType.DELORA]
    PEFT_TYPE_TO_TUNER_MAPPING[PeftType.DELORA] = QuantizedDeloraModel
    try:
        yield
    finally:
        PEFT_TYPE_TO_TUNER_MAPPING[PeftType.DELORA] = stock
