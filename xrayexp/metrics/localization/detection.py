"""Precision, recall and F1 of boxes: a drawn box is right where it overlaps a true one of its finding by half."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Metric, Sums
from xrayexp.metrics.formulas import precision_recall_f1
from xrayexp.metrics.localization.counts import NO_BOXES
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import Part, row

THRESHOLD = 0.5


class BoxDetection(Metric):
    """For models that write boxes without saying how sure they are."""

    name: ClassVar[str] = "box_detection"
    definitions = row(
        "box",
        "boxes, IoU 0.5",
        precision=Part(
            "drawn boxes, over all images",
            "Share of the drawn boxes that overlap a true box of the same finding by an IoU of at least 0.5.",
            "no box was drawn",
        ),
        recall=Part(
            "true boxes, over all images",
            "Share of the true boxes that a drawn box of the same finding overlaps by an IoU of at least 0.5.",
            "there is no true box",
        ),
        f1=Part(
            "boxes, true and drawn, over all images", "Harmonic mean of the boxes' precision and recall.", NO_BOXES
        ),
        weakness="One threshold: an IoU of 0.49 is as wrong as a box elsewhere, and frequent findings decide.",
        caution="one threshold; frequent findings decide",
    )

    def measure(self, reports: ReportSet) -> Sums:
        counted = [list(counts.values()) for counts in reports.boxes]
        rows = [
            [sum(c.true for c in each), sum(len(c.named) for c in each), sum(sum(c.correct[THRESHOLD]) for c in each)]
            for each in counted
        ]
        return Sums(np.array(rows, dtype=float).reshape(-1, 3), precision_recall_f1)
