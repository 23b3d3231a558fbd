"""DoRA at about LoRA's cost on PEFT's own layers: parameters, names, saving and merging stay PEFT's.

PEFT's layer multiplies B A through an identity of [in, in], adds it to a second dequantised copy of the weight and
takes the norm of that, at every forward pass. Here the norm comes from the small factors, and one dequantised copy
serves it and the base product (`xrayexp.adapters.dora_function`).
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.bnb import Linear4bit, Linear8bitLt
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import Linear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor

from xrayexp.adapters.bypass import adapter_dtype, bypassed
from xrayexp.adapters.dora_function import DoraFunction, weight_norm
from xrayexp.adapters.frozen import FrozenWeight

log = logging.getLogger(__name__)


class FactoredDoraLinearLayer(DoraLinearLayer):
    """PEFT's DoRA layer with the norm from the small factors: for what the fused layer does not do.

    That is several active adapters, dropout, 8-bit layers, and activations of another type than the weight. With
    dropout the weight is multiplied a second time, as in PEFT, but autograd does not keep it.
    """

    def forward(
        self,
        x: Tensor,
        *,
        lora_A: Any,
        lora_B: Any,
        scaling: float,
        base_layer: Any,
        base_result: Tensor | None = None,
        adapter_name: str = "default",
    ) -> Tensor:
        """What DoRA adds to the base layer's output, [..., out]; the arguments are PEFT's."""
        frozen = FrozenWeight.of(base_layer)
        if frozen is None or lora_B.bias is not None:
            stock: Tensor = super().forward(  # type: ignore[no-untyped-call]
                x, lora_A=lora_A, lora_B=lora_B, scaling=scaling,
                base_layer=base_layer, base_result=base_result, adapter_name=adapter_name,
            )  # fmt: skip
            return stock
        ratio = self.weight / weight_norm(frozen, lora_A.weight, lora_B.weight, scaling)
        if base_result is None:
            base_result = base_layer(x)
        if base_layer.bias is not None:
            base_result = base_result - base_layer.bias
        added: Tensor = (ratio - 1) * base_result + ratio * lora_B(lora_A(x)) * scaling
        return added


def _factored(parent: Any) -> Any:
    """A subclass of one of PEFT's LoRA layers whose instances `parent`'s can become.

    With a mixin they could not: `__class__` can only be assigned where PEFT's class is the first base.
    """

    class Factored(parent):  # type: ignore[misc]
        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            asked = args or any(value is not None for value in kwargs.values())
            y = None if asked else _fused(self, x)
            return super().forward(x, *args, **kwargs) if y is None else y  # type: ignore[no-any-return]

        def update_layer(self, *args: Any, **kwargs: Any) -> None:
            super().update_layer(*args, **kwargs)
            _adopt(self)

        def merge(self, *args: Any, **kwargs: Any) -> None:
            super().merge(*args, **kwargs)
            _forget(self)

        def unmerge(self) -> None:
            super().unmerge()
            _forget(self)

    Factored.__name__ = Factored.__qualname__ = f"Factored{parent.__name__}"
    return Factored


# Under these names, or pickle would not find them.
FactoredLinear4bit = _factored(Linear4bit)
FactoredLinear8bitLt = _factored(Linear8bitLt)
FactoredLinear = _factored(Linear)
_FACTORED = {Linear4bit: FactoredLinear4bit, Linear8bitLt: FactoredLinear8bitLt, Linear: FactoredLinear}


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _fused(layer: Any, x: Tensor) -> Tensor | None:
    """The output of a layer with one active adapter as one function, [..., out]; None where that is not possible."""
    name = _single_dora(layer)
    if name is None:
        return None
    frozen = bypassed(layer, x, adapter_dtype(x, layer.lora_A[name].weight))
    if frozen is None:
        return None
    y: Tensor = DoraFunction.apply(  # type: ignore[no-untyped-call]
        x.to(frozen.dtype).reshape(-1, x.shape[-1]),
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        layer.lora_magnitude_vector[name].weight,
        frozen,
        layer.scaling[name],
    ).reshape(*x.shape[:-1], -1)
    bias = frozen.layer.bias
    if bias is not None:
        y = y + bias.to(y.dtype)
    return y.to(x.dtype) if isinstance(layer, Linear4bit) else y


def _single_dora(layer: Any) -> str | None:
    """The active adapter, if there is one, it is DoRA, and nothing is merged, dropped or switched off."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(active) != 1:
        return None
    [name] = active
    if type(layer.lora_variant.get(name)) is not DoraLinearVariant or layer.lora_B[name].bias is not None:
        return None
    return name if isinstance(layer.lora_dropout[name], torch.nn.Identity) or not layer.training else None


def _forget(layer: Any) -> None:
    """PEFT merges into unquantised weights in place, behind the back of their version."""
    frozen = FrozenWeight.of(layer.get_base_layer())
    if frozen is not None:
        frozen.forget()


def factor_dora(model: torch.nn.Module) -> int:
    """Lets all DoRA layers of a PEFT model compute their norms from the small factors; the parameters stay.

    Layers that cannot are left as PEFT makes them, and a warning says how many. Adapters that are added to a
    layer later are included.

    Returns:
        The number of layers that were changed.
    """
    changed, left = 0, set()
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer) or not any(layer.use_dora.values()):
            continue
        if type(layer) in _FACTORED and not layer.ephemeral_gpu_offload and FrozenWeight.of(layer.get_base_layer()):
            layer.__class__ = _FACTORED[type(layer)]
            _adopt(layer)
            changed += 1
        elif type(layer) not in _FACTORED.values():
            left.add(name)
    if left:
        log.warning(
            "%d DoRA layers, for example %s, are computed in PEFT's slower way: only frozen linear layers that are "
            "4-bit, 8-bit or not quantised can do better",
            len(left), min(left),
        )  # fmt: skip
    return changed


def init_magnitude(model: torch.nn.Module) -> None:
    """Sets the magnitudes of a fresh adapter to the norms themselves, so that it changes nothing yet.

    PEFT takes the norm in the weight's type: in bfloat16 it is off by up to 0.4 %, and so is every row's output.
    """
    layer: Any
    for layer in model.modules():
        if type(layer) in _FACTORED.values():
            for name, magnitude in layer.lora_magnitude_vector.items():
                frozen = FrozenWeight.of(layer.get_base_layer())
                assert frozen is not None  # or the layer would not be factored
                if magnitude.weight.is_meta:  # there are no numbers, only shapes
                    continue
                factors = layer.lora_A[name].weight, layer.lora_B[name].weight
                magnitude.weight.data.copy_(weight_norm(frozen, *factors, layer.scaling[name]))


def _adopt(layer: Any) -> None:
    """Puts right what PEFT has just added to a layer."""
    for magnitude in layer.lora_magnitude_vector.values():
        if type(magnitude) is DoraLinearLayer:
            magnitude.__class__ = FactoredDoraLinearLayer
    base = layer.get_base_layer()
    # On a CPU PEFT makes a new parameter of an 8-bit weight, and if the layer has run before, the scales are lost.
    if isinstance(layer, Linear8bitLt) and base.weight.CB is not None and base.weight.SCB is None:
        base.weight.SCB = base.state.SCB
