"""Precision, recall and F1 of each finding, averaged by how often it is true."""

from __future__ import annotations

from typing import ClassVar

from xrayexp.metrics.base import Floats, Metric, Sums
from xrayexp.metrics.formulas import blocks, class_mean
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NONE_TRUE, Part, row

_OVER = "true findings, by finding"


class Weighted(Metric):
    """scikit-learn's weighted average with `zero_division=0`."""

    name: ClassVar[str] = "weighted"
    definitions = row(
        "weighted",
        "weighted by support",
        precision=Part(
            _OVER,
            "Mean of the precision of every finding, each counted as often as it is true; a finding that is never "
            "named counts as 0.",
            NONE_TRUE,
        ),
        recall=Part(
            _OVER, "Mean of the recall of every finding, each counted as often as it is true: micro recall.", NONE_TRUE
        ),
        f1=Part(_OVER, "Mean of the F1 of every finding, each counted as often as it is true.", NONE_TRUE),
        weakness="Frequent findings decide it nearly as in the micro average, and names that are never true cost "
        "nothing here.",
        caution="frequent findings decide",
    )

    def measure(self, reports: ReportSet) -> Sums:
        return Sums(reports.findings, _formula)


def _formula(sums: Floats) -> Floats:
    true, _, _ = blocks(sums)
    return class_mean(sums, weights=true)
