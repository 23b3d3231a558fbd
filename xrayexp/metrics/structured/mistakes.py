"""How many reports invent a finding, and how many leave one out."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.data.report import NORMAL
from xrayexp.metrics.base import ALL_INVARIANTS, Definition, Floats, Invariant, Metric, Sums
from xrayexp.metrics.formulas import ratio
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NO_REPORT, NOT_LISTING


class Mistakes(Metric):
    """Hallucinations and omissions, of abnormal findings: 'normal' is neither invented nor left out."""

    name: ClassVar[str] = "mistakes"
    definitions = (
        Definition(
            name="hallucination_rate",
            title="hallucination",
            averages_over="reports",
            definition="Share of reports that name an abnormal finding which is not true.",
            weakness="A model that always says normal, or nothing that can be read, never hallucinates; and one false "
            "finding counts like ten.",
            caution="silence never hallucinates",
            undefined=NO_REPORT,
            direction="lower",
            invariants=ALL_INVARIANTS - {Invariant.WRONG_BEATS_NOTHING},
        ),
        Definition(
            name="omission_rate",
            title="omission",
            averages_over="reports with a true abnormal finding",
            definition="Share of the reports with a true abnormal finding that leave one out.",
            weakness="Naming everything omits nothing; and one finding left out counts like ten, a nipple shadow like "
            "a pneumothorax.",
            caution="naming everything omits nothing",
            undefined="no report has a true abnormal finding",
            direction="lower",
            invariants=NOT_LISTING,
        ),
    )

    def measure(self, reports: ReportSet) -> Sums:
        names = reports.names
        abnormal = np.array([name != NORMAL for name in names.vocabulary], dtype=float)
        true, named, correct = (np.asarray(side @ abnormal) for side in (names.true, names.named, names.correct))
        columns = [named > correct, true > correct, np.ones(len(reports)), true > 0]
        return Sums(np.stack(columns, axis=1).astype(float), _formula)


def _formula(sums: Floats) -> Floats:
    return ratio(sums[..., :2], sums[..., 2:])
