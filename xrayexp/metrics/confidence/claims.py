"""The findings that a model named with a probability, as arrays, and words that their metrics share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from xrayexp.metrics.base import Table
from xrayexp.metrics.report_set import ReportSet

NO_CONFIDENCE = "no named finding has a probability"
GREEDY_ONLY = "A finding that is not named has no probability, so that nothing is said of what is left out"


@dataclass(frozen=True, slots=True)
class Claims:
    """Every named finding whose probability is known; 'normal' is one like any other.

    Attributes:
        report: which report names it, [claims].
        confidence: the probability of its name, [claims].
        correct: 1 where it is true and 0 elsewhere, [claims].
        reports: how many there are.
    """

    report: NDArray[np.int64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.float64]
    reports: int

    @classmethod
    def of(cls, reports: ReportSet) -> Claims:
        """Of all reports; predictions of earlier versions, and of other programs, have none."""
        found = [
            (index, report.confidence[name], name in report.truth.names)
            for index, report in enumerate(reports.reports)
            if report.confidence and report.predicted is not None
            for name in report.predicted.names & report.confidence.keys()
        ]
        which, confidence, correct = np.array(found, dtype=float).reshape(-1, 3).T
        return cls(which.astype(np.int64), confidence, correct, len(reports))

    def summed(self, values: Sequence[NDArray[np.float64]], bins: NDArray[np.int64], count: int) -> Table:
        """Sums of the values of each report's claims by bin: csr_array [reports, values x count]."""
        blocks = [csr_array((value, (self.report, bins)), shape=(self.reports, count)) for value in values]
        return hstack(blocks, format="csr")
