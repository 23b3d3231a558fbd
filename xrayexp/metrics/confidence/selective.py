"""Selective prediction: how right a model is where it is sure (El-Yaniv & Wiener, JMLR 11, 2010).

Thresholds are the probabilities that occur, or as many quantiles of them, so that the named findings above each are
columns that add up.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xrayexp.metrics.base import Definition, Floats, Metric, Sums
from xrayexp.metrics.confidence.claims import GREEDY_ONLY, NO_CONFIDENCE, Claims
from xrayexp.metrics.formulas import ratio
from xrayexp.metrics.report_set import ReportSet

KEPT = 0.8
COVERAGES = tuple(np.arange(1, 21) / 20)
THRESHOLDS = 100  # at most


class Selective(Metric):
    """The precision of the surest named findings; ties are kept in proportion, as if they were broken by chance."""

    name: ClassVar[str] = "selective"
    definitions = (
        Definition(
            name="selective_precision_80",
            title="precision of the surest 80 %",
            averages_over="the 80 % of the named findings with the highest probability",
            definition="Share of the surest 80 % of all named findings that is true.",
            weakness=f"{GREEDY_ONLY}; compare it with micro_precision, above which it rises only if the probabilities "
            "rank right above wrong.",
            caution="compare with micro precision",
            undefined=NO_CONFIDENCE,
        ),
        Definition(
            name="risk_coverage_area",
            title="area under risk and coverage",
            averages_over="20 shares of the named findings that are kept, 5 % to 100 %, the surest first",
            definition="Mean share of the kept named findings that is false, over keeping the surest 5 %, 10 %, ... "
            "100 % of them.",
            weakness=f"{GREEDY_ONLY}; a precise model has a small area even if its probabilities rank nothing.",
            caution="small for any precise model",
            undefined=NO_CONFIDENCE,
            direction="lower",
        ),
    )

    def measure(self, reports: ReportSet) -> Sums:
        claims = Claims.of(reports)
        place, bins = _surest_first(claims.confidence)
        return Sums(claims.summed([np.ones(len(place)), claims.correct], place, bins), _formula)


def _surest_first(confidence: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """The bin of every claim, 0 for the surest ones, and the number of bins."""
    edges = np.unique(confidence)
    if len(edges) > THRESHOLDS:
        edges = np.unique(np.quantile(confidence, np.arange(THRESHOLDS) / THRESHOLDS, method="lower"))
    bins = max(1, len(edges))
    return bins - np.searchsorted(edges, confidence, side="right"), bins


def _formula(sums: Floats) -> Floats:
    risks = [1 - _precision(sums, coverage) for coverage in COVERAGES]
    return np.stack([_precision(sums, KEPT), np.mean(risks, axis=0)], axis=-1)


def _precision(sums: Floats, coverage: float) -> Floats:
    """Of so large a share of the claims, from counts and correct ones by bin [..., 2 x bins] to [...]."""
    size = sums.shape[-1] // 2
    count, correct = sums[..., :size], sums[..., size:]
    before = np.cumsum(count, axis=-1) - count
    kept = np.clip(coverage * count.sum(axis=-1, keepdims=True) - before, 0, count)
    return ratio((correct * np.nan_to_num(ratio(kept, count))).sum(axis=-1), kept.sum(axis=-1))
