"""Precision, recall and F1 of (finding, location) pairs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Metric, Sums
from xrayexp.metrics.formulas import precision_recall_f1
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import Part, row


class LocatedFindings(Metric):
    """A location counts only beside its own finding; the letters must agree."""

    name: ClassVar[str] = "pairs"
    definitions = row(
        "pair",
        "finding + location",
        precision=Part(
            "named (finding, location) pairs, over all reports",
            "Share of all named (finding, location) pairs that are true.",
            "no location was named",
        ),
        recall=Part(
            "true (finding, location) pairs, over all reports",
            "Share of all true (finding, location) pairs that are named.",
            "no true finding has a location",
        ),
        f1=Part(
            "(finding, location) pairs, true and named, over all reports",
            "Harmonic mean of pair precision and pair recall.",
            "no location is true or named",
        ),
        weakness="Only findings that have a location take part, those with many locations most, and it is letters "
        "that are compared, not places: 'right' is no part of 'right upper lobe'.",
        caution="silent on findings without location",
    )

    def measure(self, reports: ReportSet) -> Sums:
        return Sums(np.stack(reports.pairs.sizes(), axis=1), precision_recall_f1)
