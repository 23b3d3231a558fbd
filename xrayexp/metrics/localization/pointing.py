"""Whether a model points at the right place, however large its box."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import ALL_INVARIANTS, Definition, Invariant, Metric, Sums
from xrayexp.metrics.formulas import means
from xrayexp.metrics.localization.counts import NO_BOXES
from xrayexp.metrics.report_set import ReportSet


class Pointing(Metric):
    """The pointing game (Zhang et al. 2018, Top-down neural attention), with the centre of a box for the maximum."""

    name: ClassVar[str] = "pointing"
    definitions = (
        Definition(
            name="pointing_accuracy",
            title="pointing accuracy",
            averages_over="true findings with a box, over all images",
            definition="Share of the true findings with a box whose surest drawn box has its centre in a true box; of "
            "several equally sure boxes, the share that has.",
            weakness="Boxes of findings that are not there cost nothing, nor does a second true box that is missed, "
            "and the size of a box does not matter.",
            caution="false findings cost nothing: naming everything scores 1",
            undefined=NO_BOXES,
            invariants=ALL_INVARIANTS - {Invariant.LISTING_DOES_NOT_WIN},
        ),
    )

    def measure(self, reports: ReportSet) -> Sums:
        rows = [
            [sum(c.pointed for c in counts), sum(c.true > 0 for c in counts)]
            for counts in (counted.values() for counted in reports.boxes)
        ]
        return Sums(np.array(rows, dtype=float).reshape(-1, 2), means)
