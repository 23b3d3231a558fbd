"""Every finding by itself: support, precision, recall and F1."""

from __future__ import annotations

from typing import ClassVar

from xrayexp.metrics.base import Classes, Floats, Metric, Sums
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.scores import FINDINGS


class Findings(Metric):
    """Each name that is true or named at least once."""

    name: ClassVar[str] = FINDINGS
    definitions = ()

    def measure(self, reports: ReportSet) -> Sums:
        return Sums(reports.findings, _nothing, Classes(reports.finding_names, reports.never_true))


def _nothing(sums: Floats) -> Floats:
    return sums[..., :0]
