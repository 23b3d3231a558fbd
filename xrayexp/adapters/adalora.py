"""What AdaLoRA needs of the training loop: a term of the loss, a step of its own, and a place in checkpoints.

PEFT adds the term to the loss that the model computes itself, which this package does not use; and what is known about
the importance of the ranks lies outside of the parameters. All functions do nothing for other adapters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.adalora import AdaLoraModel

from xrayexp.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_AVERAGES = ("exp_avg_ipt", "exp_avg_unc")  # of the importance of every number, and of its fluctuation


def orthogonality(model: PeftModel | PreTrainedModel) -> torch.Tensor | None:
    """The weighted mean of `||P^T P - I||` and `||Q Q^T - I||` over all layers (Zhang et al. 2023, equation 4).

    Returns:
        A scalar to be added to the loss of an optimiser step; None without AdaLoRA.
    """
    tuner = _tuner(model)
    if tuner is None:
        return None
    norms = []
    for name, matrix in tuner.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix  # [r, r]
            norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
    weight: float = tuner.peft_config[tuner.trainable_adapter_name].orth_reg_weight  # type: ignore[attr-defined]
    return weight * torch.stack(norms).mean()


def allocate_ranks(model: PeftModel | PreTrainedModel, step: int) -> None:
    """Prunes the ranks that matter least; to be called after an optimiser step, with its gradients still there.

    Args:
        model: the model with its adapter.
        step: how many optimiser steps are done, from 1.
    """
    tuner = _tuner(model)
    if tuner is not None:
        tuner.update_and_allocate(step)


def allocation_state(model: PeftModel | PreTrainedModel) -> dict[str, Any]:
    """What the next allocations depend on, in plain types and tensors; empty without AdaLoRA."""
    tuner = _tuner(model)
    if tuner is None:
        return {}
    config: Any = tuner.peft_config[tuner.trainable_adapter_name]
    averages = {name: dict(getattr(tuner.rankallocator, name)) for name in _AVERAGES}
    return {"total_step": config.total_step, "rank_pattern": config.rank_pattern, **averages}


def restore_allocation(model: PeftModel | PreTrainedModel, state: dict[str, Any]) -> None:
    """Puts back what `allocation_state` returned.

    Raises:
        UserError: when the training has another length by now.
    """
    tuner = _tuner(model)
    if tuner is None:
        return
    config: Any = tuner.peft_config[tuner.trainable_adapter_name]
    if state["total_step"] != config.total_step:
        raise UserError(
            f"AdaLoRA's ranks are allocated over the whole training: it was made for {state['total_step']} steps, and "
            f"trainer.max_steps or max_epochs now make {config.total_step}"
        )
    config.rank_pattern = state["rank_pattern"]
    allocator: Any = tuner.rankallocator
    for name in _AVERAGES:
        setattr(allocator, name, dict(state[name]))
    allocator.ipt = dict.fromkeys(state[_AVERAGES[0]])  # which numbers have an average already; its values are not read


def _tuner(model: PeftModel | PreTrainedModel) -> AdaLoraModel | None:
    tuner = getattr(model, "base_model", None)
    return tuner if isinstance(tuner, AdaLoraModel) else None
