"""The Brier score of the findings that are named (Brier, Monthly Weather Review 78, 1950)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Definition, Invariant, Metric, Sums
from xrayexp.metrics.confidence.claims import GREEDY_ONLY, NO_CONFIDENCE, Claims
from xrayexp.metrics.formulas import means
from xrayexp.metrics.report_set import ReportSet


class BrierScore(Metric):
    """scikit-learn's `brier_score_loss` over all named findings."""

    name: ClassVar[str] = "brier"
    definitions = (
        Definition(
            name="brier_score",
            title="Brier score",
            averages_over="named findings, over all reports",
            definition="Mean squared difference between a named finding's probability and 1 where it is true, 0 where "
            "it is not.",
            weakness=f"{GREEDY_ONLY}; and a model that names what is false with a small probability scores well.",
            caution="says nothing of what is left out",
            undefined=NO_CONFIDENCE,
            direction="lower",
            invariants=frozenset({Invariant.ORDER_IS_IRRELEVANT}),
        ),
    )

    def measure(self, reports: ReportSet) -> Sums:
        claims = Claims.of(reports)
        squares = (claims.confidence - claims.correct) ** 2
        one_bin = np.zeros(len(squares), dtype=np.int64)
        return Sums(claims.summed([squares, np.ones(len(squares))], one_bin, 1), means)
