"""Expected calibration error: does of the findings named with a probability of 0.8 a share of 0.8 hold?

Naeini, Cooper & Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning (AAAI 2015); Guo et al., On
Calibration of Modern Neural Networks (ICML 2017), equation 3.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from xrayexp.errors import ConfigError
from xrayexp.metrics.base import Definition, Floats, Invariant, Metric, Sums
from xrayexp.metrics.confidence.claims import GREEDY_ONLY, NO_CONFIDENCE, Claims
from xrayexp.metrics.formulas import blocks, ratio
from xrayexp.metrics.report_set import ReportSet

BINS = 15  # Guo's


class CalibrationError(Metric):
    """The gap between probability and share of the true, by bins of equal width.

    Args:
        bins: how many, from 0 to 1.

    Raises:
        ConfigError: fewer than two bins.
    """

    name: ClassVar[str] = "calibration"
    definitions = (
        Definition(
            name="calibration_error",
            title="calibration error",
            averages_over="named findings, by bin of probability",
            definition="Mean over bins of equal width, each weighted by its named findings, of the distance between "
            "their mean probability and the share of them that is true.",
            weakness=f"{GREEDY_ONLY}; naming everything with its frequency as probability scores 0, bins with few "
            "findings lift it by chance, and errors of both signs inside of a bin cancel.",
            caution="says nothing of what is left out",
            undefined=NO_CONFIDENCE,
            direction="lower",
            invariants=frozenset({Invariant.ORDER_IS_IRRELEVANT}),
        ),
    )

    def __init__(self, bins: int = BINS) -> None:
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
            raise ConfigError([f"bins must be a whole number of at least 2, not {bins}"])
        self.bins = bins

    def measure(self, reports: ReportSet) -> Sums:
        claims = Claims.of(reports)
        # A probability of 1 belongs to the last bin.
        place = np.minimum((claims.confidence * self.bins).astype(np.int64), self.bins - 1)
        table = claims.summed([np.ones(len(place)), claims.confidence, claims.correct], place, self.bins)
        return Sums(table, _formula, details=_reliability(np.asarray(table.sum(axis=0), dtype=float)))


def reliability(reports: ReportSet) -> dict[str, Any] | None:
    """The curve of `calibration` in metrics.json; None where no named finding has a probability."""
    details = CalibrationError().measure(reports).details
    return None if details is None else dict(details)


def _formula(sums: Floats) -> Floats:
    count, confidence, correct = blocks(sums)
    return ratio(np.abs(confidence - correct).sum(axis=-1), count.sum(axis=-1))[..., None]


def _reliability(total: Floats) -> dict[str, Any] | None:
    count, confidence, correct = blocks(total)
    if not count.sum():
        return None
    means, shares = ratio(confidence, count), ratio(correct, count)
    bins = [
        {"probability": float(p), "observed": float(q), "count": int(n)}
        for p, q, n in zip(means, shares, count, strict=True)
        if n
    ]
    return {"ece": float(_formula(total)[0]), "bins": bins}
