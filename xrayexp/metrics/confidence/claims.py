"""The findings that a model named with a probability, as arrays, and words that their metrics share.

Where reports were drawn at random beside the one that is scored, their shares are the probabilities, and what any of
them names is named. Which findings these are does not depend on the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from xrayexp.metrics.base import Table
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.samples import ScoredReport

NO_CONFIDENCE = "no named finding has a probability"
GREEDY_ONLY = "A finding that is not named has no probability, so that nothing is said of what is left out"


@dataclass(frozen=True, slots=True)
class Claims:
    """Every named finding whose probability is known; 'normal' is one like any other.

    Attributes:
        report: which report names it, [claims].
        confidence: its probability, [claims].
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
            (index, probability, name in report.truth.names)
            for index, report in enumerate(reports.reports)
            for name, probability in _probabilities(report).items()
        ]
        which, confidence, correct = np.array(found, dtype=float).reshape(-1, 3).T
        return cls(which.astype(np.int64), confidence, correct, len(reports))

    def summed(self, values: Sequence[NDArray[np.float64]], bins: NDArray[np.int64], count: int) -> Table:
        """Sums of the values of each report's claims by bin: csr_array [reports, values x count]."""
        blocks = [csr_array((value, (self.report, bins)), shape=(self.reports, count)) for value in values]
        return hstack(blocks, format="csr")


def _probabilities(report: ScoredReport) -> Mapping[str, float]:
    """Of all findings that are named: the shares of samples if there are any, else the probabilities of the names."""
    named = frozenset() if report.predicted is None else report.predicted.names
    if report.sampled is not None:
        return {**dict.fromkeys(named, 0.0), **report.sampled}
    confidence = report.confidence or {}
    return {name: confidence[name] for name in named & confidence.keys()}
