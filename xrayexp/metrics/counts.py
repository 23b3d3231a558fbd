"""Additive counts per patient: all that a corpus-level metric needs to know of the reports.

Every metric of this room is a formula on sums over reports. So a bootstrap resample of patients is a
weighted sum of the patients' rows, and one formula serves the value and its thousand resamples alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrayexp.metrics.samples import Comparison, ScoredReport, compare

Floats = NDArray[np.floating]

SCALARS: Mapping[str, Callable[[Comparison], int]] = {
    "reports": lambda report: 1,
    "graded": lambda report: bool(report.names.true),  # those for which the soft matches are defined
    "exact_match": lambda report: report.exact_match,
    "exact_match_located": lambda report: report.exact_match_located,
    "soft_match": lambda report: report.soft_match or False,
    "soft_match_jaccard": lambda report: report.soft_match_jaccard or False,
    "unparseable": lambda report: report.unparseable,
    "true": lambda report: len(report.names.true),
    "named": lambda report: len(report.names.named),
    "correct": lambda report: len(report.names.correct),
    "pairs_true": lambda report: len(report.pairs.true),
    "pairs_named": lambda report: len(report.pairs.named),
    "pairs_correct": lambda report: len(report.pairs.correct),
}
"""What is counted of each report; a column each, in this order."""

_COLUMN = {name: index for index, name in enumerate(SCALARS)}
_BLOCKS = ("true", "named", "correct")  # after the scalars, one column per finding in each block


@dataclass(frozen=True, slots=True)
class Counts:
    """Summed counts; `table` is [..., columns], its leading axes patients, resamples, or none."""

    table: Floats

    def scalar(self, name: str) -> Floats:
        """One of SCALARS: [...]."""
        return np.asarray(self.table[..., _COLUMN[name]])

    def finding(self, block: str) -> Floats:
        """'true', 'named' or 'correct' of each finding that is ever true: [..., findings]."""
        blocks = self.table[..., len(SCALARS) :]
        shape = (*blocks.shape[:-1], len(_BLOCKS), blocks.shape[-1] // len(_BLOCKS))
        return np.asarray(blocks.reshape(shape)[..., _BLOCKS.index(block), :])

    def total(self) -> Counts:
        """The sum over the first axis."""
        return Counts(self.table.sum(axis=0))


@dataclass(frozen=True, slots=True)
class PatientCounts:
    """What `count_by_patient` found.

    Attributes:
        counts: [patients, columns], patients sorted by id, so that the order of reports does not matter.
        findings: the names that are true at least once, sorted: the finding columns.
        never_true: the other names that were predicted, with the number of reports that name them. They
            have no columns: a model that babbles would make thousands.
    """

    counts: Counts
    findings: tuple[str, ...]
    never_true: Counter[str]


def count_by_patient(reports: Sequence[ScoredReport]) -> PatientCounts:
    """Sum the counts of each patient's reports."""
    comparisons = [compare(report) for report in reports]
    findings = sorted(set().union(*(comparison.names.true for comparison in comparisons)))
    column = {name: index for index, name in enumerate(findings)}
    row = {patient: index for index, patient in enumerate(sorted({r.patient_id for r in reports}))}
    rows = [row[report.patient_id] for report in reports]

    table = np.zeros((len(row), len(SCALARS) + len(_BLOCKS) * len(findings)))
    for name, count in SCALARS.items():
        np.add.at(table[:, _COLUMN[name]], rows, [count(comparison) for comparison in comparisons])
    cells = np.array(_finding_cells(comparisons, rows, column), dtype=int).reshape(-1, 2)
    np.add.at(table, (cells[:, 0], cells[:, 1]), 1)

    named = Counter(name for comparison in comparisons for name in comparison.names.named)
    never_true = Counter({name: times for name, times in named.items() if name not in column})
    return PatientCounts(Counts(table), tuple(findings), never_true)


def _finding_cells(
    comparisons: Sequence[Comparison], rows: Sequence[int], column: Mapping[str, int]
) -> list[tuple[int, int]]:
    """The cells of the table to be raised by one, for the blocks of findings."""
    return [
        (row, len(SCALARS) + block * len(column) + column[name])
        for row, comparison in zip(rows, comparisons, strict=True)
        for block, names in enumerate((comparison.names.true, comparison.names.named, comparison.names.correct))
        for name in names
        if name in column
    ]
