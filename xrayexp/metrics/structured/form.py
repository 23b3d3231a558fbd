"""What can be said of reports without asking whether they are true: can they be read, and how long are they."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Definition, Invariant, Metric, Sums
from xrayexp.metrics.formulas import means
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NO_REPORT


class Form(Metric):
    """Unparseable predictions, and findings per report."""

    name: ClassVar[str] = "form"
    definitions = (
        Definition(
            name="unparseable_rate",
            title="unparseable",
            averages_over="reports",
            definition="Share of predictions that are not a report and therefore name nothing.",
            weakness="It judges the form only; and as an unparseable prediction names nothing false, it lowers "
            "recall and leaves precision as it was.",
            caution="the form only",
            undefined=NO_REPORT,
            direction="lower",
            invariants=frozenset({Invariant.PERFECT_IS_BEST, Invariant.ORDER_IS_IRRELEVANT}),
        ),
        Definition(
            name="mean_findings_true",
            title="findings per report, true",
            averages_over="reports",
            definition="Mean number of true findings per report, 'normal' included.",
            weakness="It describes the data, not the model.",
            caution="describes the data",
            undefined=NO_REPORT,
            direction="neither",
            highest=None,
            invariants=frozenset({Invariant.ORDER_IS_IRRELEVANT}),
        ),
        Definition(
            name="mean_findings_named",
            title="findings per report, named",
            averages_over="reports",
            definition="Mean number of named findings per report, 0 for an unparseable one.",
            weakness="It can equal the true number with every finding wrong; far above it, the recall-only "
            "scores are bought by listing.",
            caution="far above the true one: listing",
            undefined=NO_REPORT,
            direction="neither",
            highest=None,
            invariants=frozenset({Invariant.ORDER_IS_IRRELEVANT}),
        ),
    )

    def measure(self, reports: ReportSet) -> Sums:
        true, named, _ = reports.names.sizes()
        return Sums(np.stack([~reports.parsed, true, named, np.ones(len(reports))], axis=1).astype(float), means)
