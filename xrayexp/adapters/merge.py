"""Merges an adapter into its base model, each layer in float32 and rounded once."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch

from xrayexp.adapters.attach import base_model
from xrayexp.errors import DataError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peft import PeftModel
    from transformers import PreTrainedModel

_INSTEAD = "it can only be used as an adapter: PeftModel.from_pretrained(base, folder)"


def require_mergeable(model: PeftModel) -> None:
    """Tries to merge a copy of one layer of every kind, since each method of PEFT has its own code for it.

    Raises:
        UserError: the method cannot be merged; with PEFT's reason.
    """
    kinds = {type(layer): layer for layer in _layers(model)}
    if not kinds:
        raise UserError(f"the adapter has no layers that could be merged: {_INSTEAD}")
    for kind, layer in kinds.items():
        try:
            deepcopy(layer).merge()
        except (NotImplementedError, ValueError) as error:
            reason = str(error).partition("\n")[0] or "PEFT does not offer it"
            raise UserError(f"layers of the kind {kind.__name__} cannot be merged ({reason}): {_INSTEAD}") from error


def merge(model: PeftModel) -> PreTrainedModel:
    """Adds the adapter to the weights that it belongs to, and removes it.

    PEFT merges some methods, DeLoRA among them, in the type of the weights: in bfloat16 they would be rounded several
    times. Here every layer is merged in float32 and rounded once, which takes the memory of one layer.

    Args:
        model: an adapter on a base that is not quantised; changed by the call.

    Returns:
        The base model, with all its weights in the type that they had. A head that the adapter has made
        different from the embeddings is tied to them no longer.

    Raises:
        DataError: a merged weight is not finite.
    """
    dtype = base_model(model).dtype
    for layer in _layers(model):
        _untie(layer, model)
        merged_ones = list(layer.get_base_layer().parameters(recurse=False))  # weight and bias
        stored = [parameter.dtype for parameter in merged_ones]
        for parameter in merged_ones:
            parameter.data = parameter.data.float()
        layer.merge()
        for parameter, dtype_before in zip(merged_ones, stored, strict=True):
            if not bool(parameter.isfinite().all()):
                raise DataError("the adapter is broken: merged weights are not finite")
            parameter.data = parameter.data.to(dtype_before)
    merged: PreTrainedModel = model.unload()
    for parameter in merged.parameters():  # modules that were trained whole
        parameter.data = parameter.data.to(dtype)
    _say_whether_tied(merged)
    return merged.requires_grad_(False)


def _layers(model: PeftModel) -> Iterator[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    # Inside of a layer there may be others, which are merged with it.
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    names = {name for name, _ in found}
    for name, module in found:
        parts = name.split(".")
        if not any(".".join(parts[:end]) in names for end in range(1, len(parts))):
            yield module


def _untie(layer: Any, model: PeftModel) -> None:
    """Gives an adapted head a matrix of its own: merged into the shared one it would change the embeddings too."""
    base, embeddings = layer.get_base_layer(), _embeddings(base_model(model))
    if base is not embeddings and base.weight is embeddings.weight:
        base.weight = torch.nn.Parameter(base.weight.detach().clone(), requires_grad=False)


def _say_whether_tied(model: PreTrainedModel) -> None:
    """Where head and embeddings are two matrices, the config must say so, or loading would tie them again."""
    head, embeddings = model.get_output_embeddings(), _embeddings(model)
    if head is not None and head.weight.data_ptr() != embeddings.weight.data_ptr():
        model.config.tie_word_embeddings = False
        model.config.get_text_config().tie_word_embeddings = False


def _embeddings(model: Any) -> Any:
    return model.get_input_embeddings()
