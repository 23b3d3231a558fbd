"""How far the outputs of two models differ, along the same text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_ROWS = 64  # tokens compared at once: with 262,208 words a row of float32 is 1 MB


@dataclass(frozen=True, slots=True)
class Agreement:
    """A model beside a reference.

    Attributes:
        reports: that were compared.
        tokens: of the compared text, over all reports.
        max_difference: largest absolute difference of two logits.
        mean_difference: mean absolute difference, over tokens and words.
        divergence: Kullback-Leibler divergence of the model from the reference, mean over tokens, in nats.
        same_token: share of the tokens at which both think the same word most probable.
        same_report: number of reports that both write alike, letter by letter.
    """

    reports: int
    tokens: int
    max_difference: float
    mean_difference: float
    divergence: float
    same_token: float
    same_report: int

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"logits differ by at most {self.max_difference:.3g} and {self.mean_difference:.2g} in the mean, "
            f"KL divergence {self.divergence:.2g} nats a token, same most probable token at {self.same_token:.1%} of "
            f"{self.tokens:,} tokens, same report for {self.same_report} of {self.reports} images"
        )


def agreement(
    reference: Sequence[torch.Tensor],
    other: Sequence[torch.Tensor],
    reference_texts: Sequence[str],
    other_texts: Sequence[str],
) -> Agreement:
    """Compares two models.

    Args:
        reference: logits of one model, for every report [tokens, vocabulary], along the same tokens as `other`.
        other: logits of the other model.
        reference_texts: the reports that the one writes by itself.
        other_texts: those of the other.
    """
    largest = summed = divergence = 0.0
    same = tokens = words = 0
    for left, right in zip(reference, other, strict=True):
        for a, b in zip(left.split(_ROWS), right.split(_ROWS), strict=True):
            a, b = a.float(), b.float()
            difference = (a - b).abs()
            largest = max(largest, float(difference.max()))
            summed += float(difference.double().sum())
            p, q = a.log_softmax(dim=-1), b.log_softmax(dim=-1)
            divergence += float((p.exp() * (p - q)).sum())
            same += int((a.argmax(dim=-1) == b.argmax(dim=-1)).sum())
            tokens, words = tokens + len(a), a.shape[-1]
    return Agreement(
        reports=len(reference),
        tokens=tokens,
        max_difference=largest,
        mean_difference=summed / (tokens * words),
        divergence=max(0.0, divergence / tokens),  # rounding may leave -1e-9
        same_token=same / tokens,
        same_report=sum(a == b for a, b in zip(reference_texts, other_texts, strict=True)),
    )
