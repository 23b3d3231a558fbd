"""Precision, recall and F1 of frequent, middling and rare findings."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xrayexp.errors import ConfigError
from xrayexp.metrics.base import Definition, Floats, Metric, Sums
from xrayexp.metrics.formulas import blocks, class_mean
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import Part, row

BANDS = ("head", "middle", "tail")
_WEAKNESS = {
    "head": "It is what a model learns first and says nothing about the rest; 'normal' is one of the head.",
    "middle": "Findings with a handful of cases in the test set make it noisy.",
    "tail": "In a small test set most rare findings have no case at all and are left out, the others have a few.",
}
_CAUTIONS = {"head": "what is learnt first", "middle": "noisy", "tail": "very few cases"}


class Bands(Metric):
    """Macro averages within bands of frequency.

    A finding belongs to the head if it is true in at least `head` of the training images, to the tail if in less than
    `tail`, else to the middle. Where the training images are not known, the scored ones stand in. At PadChest's
    107,586 usable frontal images the defaults are 1,076 and 108 images.

    Args:
        head: share of the images from which on a finding is frequent.
        tail: share of the images below which it is rare.

    Raises:
        ConfigError: the shares are not in order.
    """

    name: ClassVar[str] = "bands"

    def __init__(self, head: float = 0.01, tail: float = 0.001) -> None:
        if not 0 < tail <= head < 1:
            raise ConfigError([f"bands: 0 < tail <= head < 1 must hold, not tail={tail} and head={head}"])
        self.head, self.tail = head, tail
        limits = {
            "head": f"at least {100 * head:g} %",
            "middle": f"at least {100 * tail:g} % and less than {100 * head:g} %",
            "tail": f"less than {100 * tail:g} %",
        }
        self.definitions = tuple(definition for band in BANDS for definition in _definitions(band, limits[band]))

    def measure(self, reports: ReportSet) -> Sums:
        shares = self._shares(reports)
        members = np.stack([shares >= self.head, (shares < self.head) & (shares >= self.tail), shares < self.tail])

        def formula(sums: Floats) -> Floats:
            true, named, correct = blocks(sums)
            chosen = [np.concatenate([part[..., band] for part in (true, named, correct)], axis=-1) for band in members]
            return np.concatenate([class_mean(sums_of_band) for sums_of_band in chosen], axis=-1)

        return Sums(reports.findings, formula)

    @staticmethod
    def _shares(reports: ReportSet) -> NDArray[np.float64]:
        """Of the images in which each finding is true: [findings]."""
        if reports.training_shares is None:
            true, _, _ = blocks(np.asarray(reports.findings.sum(axis=0), dtype=float))
            return np.asarray(true / max(1, len(reports)))
        return np.array([reports.training_shares.get(name, 0.0) for name in reports.finding_names])


def _definitions(band: str, limits: str) -> tuple[Definition, ...]:
    over = f"findings of the {band} with true support"
    which = f"over the findings that are true in {limits} of the training images"
    none = f"no true finding belongs to the {band}"
    return row(
        band,
        f"{band} findings",
        precision=Part(over, f"Macro precision {which}.", none),
        recall=Part(over, f"Macro recall {which}.", none),
        f1=Part(over, f"Macro F1 {which}.", none),
        weakness=_WEAKNESS[band],
        caution=_CAUTIONS[band],
    )
