"""Types in which adapters compute where PEFT's own do not fit this package's precisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from peft import PeftModel

PROJECTOR = "multi_modal_projector"


def keep_output_type(model: PeftModel) -> None:
    """Makes adapted quantised layers return the type of their input, as the layers below them do.

    Under autocast PEFT's RoAd, RandLoRA and (on 8-bit) AdaLoRA return float32, which a bfloat16 layer norm of the
    vision tower refuses (PEFT 0.21).
    """
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer) and isinstance(module.get_base_layer(), Linear4bit | Linear8bitLt):
            module.register_forward_hook(_as_input)


def _as_input(module: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    return output.to(inputs[0].dtype)


def keep_projector_exact(model: PeftModel) -> bool:
    """Keeps a projector that is trained whole in float32, where small updates are not rounded away.

    Returns:
        Whether there is one.
    """
    from peft.utils.other import ModulesToSaveWrapper

    wrapped = [m for n, m in model.named_modules() if n.endswith(PROJECTOR) and isinstance(m, ModulesToSaveWrapper)]
    for wrapper in wrapped:
        for projector in wrapper.modules_to_save.values():
            projector.float()
            projector.mm_soft_emb_norm.register_forward_hook(_as_weight)  # type: ignore[union-attr]
    return bool(wrapped)


def _as_weight(norm: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    """The norm returns its input's type, but a product without autocast wants that of the weight that follows."""
    return output.to(norm.weight.dtype)
