"""Precision, recall and F1 over all findings of all reports."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Metric, Sums
from xrayexp.metrics.formulas import precision_recall_f1
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NEITHER, NONE_NAMED, NONE_TRUE, Part, row


class Micro(Metric):
    """Every finding of every report counts once."""

    name: ClassVar[str] = "micro"
    definitions = row(
        "micro",
        "micro",
        precision=Part(
            "named findings, over all reports", "Share of all named findings that are true.", NONE_NAMED
        ),
        recall=Part("true findings, over all reports", "Share of all true findings that are named.", NONE_TRUE),
        f1=Part(
            "findings, true and named, over all reports",
            "Harmonic mean of micro precision and micro recall.",
            NEITHER,
        ),
        weakness="Frequent findings decide it ('normal' above all), so it can be high while every rare finding is "
        "missed.",
        caution="frequent findings decide",
    )  # fmt: skip

    def measure(self, reports: ReportSet) -> Sums:
        return Sums(np.stack(reports.names.sizes(), axis=1), precision_recall_f1)
