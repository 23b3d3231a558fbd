"""Precision, recall and F1 of each report, averaged: every report counts once."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Metric, Sums
from xrayexp.metrics.formulas import means, ratio
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NO_REPORT, Part, row


class PerReport(Metric):
    """scikit-learn's samples average with `zero_division=0`."""

    name: ClassVar[str] = "samples"
    definitions = row(
        "samples",
        "mean over reports",
        precision=Part(
            "reports",
            "Mean over reports of the share of their named findings that are true, 0 where nothing is named.",
            NO_REPORT,
        ),
        recall=Part(
            "reports",
            "Mean over reports of the share of their true findings that are named, 0 where nothing is true.",
            NO_REPORT,
        ),
        f1=Part(
            "reports", "Mean over reports of the F1 of their findings, 0 where nothing is true or named.", NO_REPORT
        ),
        weakness="A report of one finding weighs as much as one of ten, and a test set full of normal studies lifts "
        "it for a model that always says normal.",
        caution="normal studies lift it",
    )

    def measure(self, reports: ReportSet) -> Sums:
        true, named, correct = reports.names.sizes()
        scores = (ratio(correct, named, 0.0), ratio(correct, true, 0.0), ratio(2 * correct, true + named, 0.0))
        return Sums(np.stack([*scores, np.ones(len(reports))], axis=1), means)
