"""How hard an example is, from its labels and what a model makes of it: what a curriculum orders by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xrayexp.data.labels import PHYSICIAN
from xrayexp.data.losses import read_losses
from xrayexp.data.report import NORMAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xrayexp.data.examples import Example

LOG, TIERS = "log", "tiers"
RARITY_SCALES = (LOG, TIERS)

# ExplainMyXray's: what a finding of at most so many images adds.
_TIERS = ((5, 5.0), (20, 3.0), (50, 1.0))


@dataclass
class DifficultySection:
    """`curriculum.difficulty`: the weights of a sum.

    Attributes:
        findings: for every abnormal finding.
        locations: for every location, once each.
        rarity: times the rarity of the rarest finding.
        rarity_scale: `log`, log10(training images / images with the finding); `tiers`, 5, 3, 1 or 0 for findings of
            at most 5, 20, 50 or more images.
        network_labels: for labels that a network predicted, which are more often wrong.
        model_loss: times the loss of a model on the example's report, in nats per token.
        losses: the file of these losses; None where `model_loss` is 0.
    """

    findings: float
    locations: float
    rarity: float
    rarity_scale: str
    network_labels: float
    model_loss: float
    losses: str | None

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        if self.rarity_scale not in RARITY_SCALES:
            known = ", ".join(RARITY_SCALES)
            found.append(f"curriculum.difficulty.rarity_scale must be one of {known}, not '{self.rarity_scale}'")
        if self.model_loss and self.losses is None:
            found.append(
                "curriculum.difficulty.model_loss needs the losses of a model: make them with `xrayexp losses RUN`, "
                "and give their file as curriculum.difficulty.losses"
            )
        if self.losses is not None and not self.model_loss:
            found.append(
                "curriculum.difficulty.losses is not used while model_loss is 0: choose curriculum/difficulty="
                "model_loss, or set curriculum.difficulty.model_loss"
            )
        return found


def difficulties(examples: Sequence[Example], weights: DifficultySection) -> NDArray[np.float64]:
    """The difficulty of every training example, [examples]; findings are counted over these examples.

    Raises:
        DataError: the file of losses cannot be read, or lacks an example.
    """
    images = Counter(name for example in examples for name in _abnormal(example))
    rarity = {name: _rarity(count, len(examples), weights.rarity_scale) for name, count in images.items()}
    from_labels = np.array([_difficulty(example, weights, rarity) for example in examples])
    if weights.losses is None:
        return from_labels
    losses = read_losses(Path(weights.losses), [example.image_id for example in examples])
    return from_labels + weights.model_loss * losses


def _difficulty(example: Example, weights: DifficultySection, rarity: dict[str, float]) -> float:
    names = _abnormal(example)
    places = {place for finding in example.findings for place in finding.locations}
    return (
        weights.findings * len(names)
        + weights.locations * len(places)
        + weights.rarity * max((rarity[name] for name in names), default=0.0)
        + weights.network_labels * (example.method != PHYSICIAN)
    )


def _abnormal(example: Example) -> set[str]:
    return {finding.name for finding in example.findings} - {NORMAL}


def _rarity(count: int, examples: int, scale: str) -> float:
    if scale == LOG:
        return float(np.log10(examples / count))
    return next((points for most, points in _TIERS if count <= most), 0.0)
