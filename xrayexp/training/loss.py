"""Cross-entropy at the supervised positions only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from xrayexp.data.collate import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def supervised_loss_sum(model: PreTrainedModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropy over the supervised tokens, in nats (a scalar, float32).

    The vocabulary projection is computed at the supervised positions alone: with Gemma 3's 262,208 words a full
    [tokens, vocabulary] tensor is most of a step's memory. The backbone and the head are called apart, because
    `logits_to_keep` takes a mask only in the newest transformers releases.

    Args:
        model: a Hugging Face vision-language model, with injected adapters or without (not a `PeftModel`).
        inputs: the model's keyword arguments, [batch, tokens] each, beside the pixels.
        labels: int64 [batch, tokens]; -100 where a token is not supervised.

    Returns:
        The sum, so that micro-batches of different length add up to the same mean over an effective batch.
    """
    logits, targets, _ = _supervised(model, inputs, labels)
    return functional.cross_entropy(logits, targets, reduction="sum")


def supervised_loss_means(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> torch.Tensor:
    """Mean of the same cross-entropy over the supervised tokens of each sample, float32 [batch].

    Args:
        model: as for `supervised_loss_sum`.
        inputs: likewise.
        labels: likewise; every sample has a supervised token.
    """
    logits, targets, supervised = _supervised(model, inputs, labels)
    losses = functional.cross_entropy(logits, targets, reduction="none")  # [supervised tokens]
    rows = supervised.nonzero()[:, 0]  # the sample of each
    sums = losses.new_zeros(len(labels)).index_add(0, rows, losses)
    return sums / rows.bincount(minlength=len(labels))


def _supervised(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [supervised tokens, vocabulary], targets [supervised tokens], and a mask of them [batch, tokens - 1]."""
    hidden = model.model(**inputs, use_cache=False).last_hidden_state  # [batch, tokens, hidden]
    targets = labels[:, 1:]  # the state at token t predicts token t + 1
    supervised = targets != IGNORED
    logits = model.get_output_embeddings()(hidden[:, :-1][supervised])
    return logits.float(), targets[supervised], supervised
