"""Cross-entropy at the supervised positions only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from xrayexp.data.collate import IGNORED
from xrayexp.models.attention_masks import with_attention_masks
from xrayexp.models.image_features import with_image_features

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def supervised_loss_sum(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor, chunk: int | None = None
) -> torch.Tensor:
    """Sum of the cross-entropy over the supervised tokens, in nats (a scalar, float32).

    The vocabulary projection is computed at the supervised positions alone: with Gemma 3's 262,208 words a full
    [tokens, vocabulary] tensor is most of a step's memory. The backbone and the head are called apart, because
    `logits_to_keep` takes a mask only in the newest transformers releases.

    Args:
        model: a Hugging Face vision-language model, with injected adapters or without (not a `PeftModel`).
        inputs: the model's keyword arguments, [batch, tokens] each, beside the pixels or, in place of these,
            `image_features` [batch, image tokens, hidden].
        labels: int64 [batch, tokens]; -100 where a token is not supervised. They may stay on the host: which positions
            are supervised is then known without waiting for the device.
        chunk: positions whose logits exist at the same time, in the forward pass and, computed again, in the backward
            pass; None for all at once.

    Returns:
        The sum, so that micro-batches of different length add up to the same mean over an effective batch.
    """
    states, targets, _ = _supervised(model, inputs, labels)
    head = model.get_output_embeddings()
    if chunk is None:
        return _cross_entropy(head, states, targets, "sum")
    parts = zip(states.split(chunk), targets.split(chunk), strict=True)
    sums = [checkpoint(_cross_entropy, head, *part, "sum", use_reentrant=False) for part in parts]
    return torch.stack(sums).sum()


def supervised_loss_means(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> torch.Tensor:
    """Mean of the same cross-entropy over the supervised tokens of each sample, float32 [batch].

    Args:
        model: as for `supervised_loss_sum`.
        inputs: likewise.
        labels: likewise; every sample has a supervised token.
    """
    states, targets, rows = _supervised(model, inputs, labels)
    losses = _cross_entropy(model.get_output_embeddings(), states, targets, "none")  # [supervised tokens]
    sums = losses.new_zeros(len(labels)).index_add(0, rows, losses)
    return sums / rows.bincount(minlength=len(labels))


def _supervised(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The states that predict [supervised tokens, hidden], what they should, and the sample of each."""
    inputs = with_attention_masks(model, with_image_features(model, inputs))
    hidden = model.model(**inputs, use_cache=False).last_hidden_state  # [batch, tokens, hidden]
    rows, columns = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)  # the state at token t predicts token t + 1
    places = (rows * labels.shape[1] + columns).to(hidden.device)
    states = hidden.flatten(0, 1).index_select(0, places)
    return states, labels[rows, columns + 1].to(hidden.device), rows.to(hidden.device)


def _cross_entropy(head: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor, reduction: str) -> torch.Tensor:
    logits = head(states)  # [supervised tokens, vocabulary]
    return functional.cross_entropy(logits.float(), targets, reduction=reduction)
