"""How well boxes cover what they should: IoU and generalised IoU, missed and false boxes included."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Definition, Metric, Sums
from xrayexp.metrics.formulas import means
from xrayexp.metrics.localization.counts import NO_BOXES
from xrayexp.metrics.report_set import ReportSet


class BoxOverlap(Metric):
    """Boxes of one finding of one image are paired so that the sum of the value is largest."""

    name: ClassVar[str] = "box_overlap"
    definitions = (
        Definition(
            name="mean_iou",
            title="mean IoU",
            averages_over="boxes: pairs of a true and a drawn one, and those without partner",
            definition="Mean intersection over union of true and drawn boxes of the same finding, 0 for a missed and "
            "for a false box.",
            weakness="It mixes how well a box fits with whether there is one: half of the boxes perfect and half of "
            "them missing is as good as all of them off by half.",
            caution="fit and number in one",
            undefined=NO_BOXES,
        ),
        Definition(
            name="mean_giou",
            title="mean generalised IoU",
            averages_over="boxes: pairs of a true and a drawn one, and those without partner",
            definition="Mean generalised IoU (Rezatofighi et al. 2019) of true and drawn boxes of the same finding, -1 "
            "for a missed and for a false box.",
            weakness="As for the mean IoU; and a box that does not touch the true one, which helps nobody, scores "
            "more than none at all, and the more the nearer it is.",
            caution="fit and number in one",
            undefined=NO_BOXES,
            lowest=-1.0,
        ),
    )

    def measure(self, reports: ReportSet) -> Sums:
        rows = [
            [sum(c.iou for c in counts), sum(c.giou for c in counts), sum(c.slots for c in counts)]
            for counts in (counted.values() for counted in reports.boxes)
        ]
        return Sums(np.array(rows, dtype=float).reshape(-1, 3), means)
