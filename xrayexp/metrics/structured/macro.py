"""Precision, recall and F1 of each finding, averaged: every finding counts once."""

from __future__ import annotations

from typing import ClassVar

from xrayexp.metrics.base import Metric, Sums
from xrayexp.metrics.formulas import class_mean
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NONE_TRUE, Part, row

_OVER = "findings with true support"


class Macro(Metric):
    """scikit-learn's macro average with `zero_division=0`, over the findings with true support."""

    name: ClassVar[str] = "macro"
    definitions = row(
        "macro",
        "macro",
        precision=Part(
            _OVER,
            "Mean, over the findings that are true at least once, of the share of their namings that are right; a "
            "finding that is never named counts as 0.",
            NONE_TRUE,
        ),
        recall=Part(
            _OVER,
            "Mean, over the findings that are true at least once, of the share of their cases that are named.",
            NONE_TRUE,
        ),
        f1=Part(_OVER, "Mean of the F1 of the findings that are true at least once.", NONE_TRUE),
        weakness="Findings with a handful of cases weigh as much as those with thousands and make it noisy, and "
        "names that are never true are left out, so inventing them costs nothing here.",
        caution="rare findings weigh as much as common",
    )

    def measure(self, reports: ReportSet) -> Sums:
        return Sums(reports.findings, class_mean)
