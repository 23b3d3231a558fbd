"""All reports of an evaluation: who is whose patient, and which report states what, as sparse matrices.

What several metrics count is counted once, here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from xrayexp.data.report import Finding, Report
from xrayexp.metrics.localization.counts import FindingCounts, count_boxes
from xrayexp.metrics.samples import ScoredReport

ItemT = TypeVar("ItemT")
LabelT = TypeVar("LabelT")
NOTHING = Report(())  # what an unparseable prediction states


@dataclass(frozen=True, slots=True)
class Incidence(Generic[ItemT]):
    """Which items stand in the true and in the predicted reports, and in both; each once per report.

    Attributes:
        vocabulary: all items.
        true: csr_array [reports, items] of 0 and 1.
        named: likewise.
        correct: likewise, true and named.
    """

    vocabulary: tuple[ItemT, ...]
    true: Any
    named: Any
    correct: Any

    @classmethod
    def of(cls, true: Sequence[Sequence[ItemT]], named: Sequence[Sequence[ItemT]]) -> Incidence[ItemT]:
        """Of the items of every true and every predicted report; repetitions count once."""
        number: dict[ItemT, int] = {}
        sides = [[[number.setdefault(item, len(number)) for item in items] for items in side] for side in (true, named)]
        return cls._from_matrices(tuple(number), *(_matrix(side, len(number)) for side in sides))

    @classmethod
    def _from_matrices(cls, vocabulary: tuple[ItemT, ...], true: Any, named: Any) -> Incidence[ItemT]:
        return cls(vocabulary, true, named, csr_array(true.multiply(named)))

    def mapped(
        self, images: Callable[[ItemT], Iterable[LabelT]], labels: Sequence[LabelT] | None = None
    ) -> Incidence[LabelT]:
        """The labels that the items stand for; a label is stated by a report if any of its items is.

        Args:
            images: the labels of an item; may be none.
            labels: all labels, in the order of the new columns; None for those that there are, sorted.
        """
        found = [set(images(item)) for item in self.vocabulary]
        if labels is None:
            labels = sorted(set().union(*found))  # type: ignore[type-var]
        column = {label: index for index, label in enumerate(labels)}
        cells = [(row, column[label]) for row, here in enumerate(found) for label in here]
        rows, columns = np.array(cells, dtype=int).reshape(-1, 2).T
        mapping = csr_array((np.ones(len(cells)), (rows, columns)), shape=(len(self.vocabulary), len(labels)))
        return Incidence[LabelT]._from_matrices(tuple(labels), _ones(self.true @ mapping), _ones(self.named @ mapping))

    def sizes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Number of true, of named and of correct items of every report, each [reports]."""
        true, named, correct = (np.asarray(side.sum(axis=1)) for side in (self.true, self.named, self.correct))
        return true, named, correct

    def blocks(self, columns: NDArray[np.integer] | slice = slice(None)) -> Any:
        """csr_array [reports, 3 x columns]: a column per item, true, then named, then correct."""
        return hstack([side[:, columns] for side in (self.true, self.named, self.correct)], format="csr")


class ReportSet:
    """The reports of an evaluation, in any order.

    Args:
        reports: one per image.
        training_shares: share of the training images in which each finding is true; None when it is not known.

    Raises:
        ValueError: an image is scored twice.
    """

    def __init__(self, reports: Sequence[ScoredReport], training_shares: Mapping[str, float] | None = None) -> None:
        [(image_id, times)] = Counter(report.image_id for report in reports).most_common(1) or [("", 1)]
        if times > 1:
            raise ValueError(f"image {image_id} is scored {times} times; each image counts once")
        self.reports, self.training_shares = tuple(reports), training_shares
        # By id, so that the order of reports does not matter.
        self.patients = tuple(sorted({report.patient_id for report in reports}))
        row = {patient: index for index, patient in enumerate(self.patients)}
        self.patient_of = np.array([row[report.patient_id] for report in reports], dtype=np.int64)  # [reports]
        self.parsed = np.array([report.predicted is not None for report in reports], dtype=bool)  # [reports]

    def __len__(self) -> int:
        return len(self.reports)

    @cached_property
    def stated(self) -> Incidence[Finding]:
        """Findings with their locations, as they stand there."""
        named = [(report.predicted or NOTHING).findings for report in self.reports]
        return Incidence.of([report.truth.findings for report in self.reports], named)

    @cached_property
    def names(self) -> Incidence[str]:
        """Names of findings, sorted; 'normal' is one like any other."""
        return self.stated.mapped(lambda finding: [finding.name])

    @cached_property
    def pairs(self) -> Incidence[tuple[str, str]]:
        """(finding, location), sorted; a finding without location has none."""
        return self.stated.mapped(lambda finding: [(finding.name, place) for place in finding.locations])

    @cached_property
    def lines(self) -> Incidence[tuple[str, tuple[str, ...]]]:
        """A finding with all locations of its line, sorted."""
        return self.stated.mapped(lambda finding: [(finding.name, tuple(sorted(set(finding.locations))))])

    @cached_property
    def boxes(self) -> tuple[dict[str, FindingCounts], ...]:
        """What is counted of the boxes of each report, by finding; nothing where there are none to compare."""
        return tuple(
            {}
            if report.true_boxes is None or report.predicted_boxes is None
            else count_boxes(report.true_boxes, report.predicted_boxes)
            for report in self.reports
        )

    @cached_property
    def supported(self) -> NDArray[np.int64]:
        """The items of `names` that are true at least once."""
        return np.flatnonzero(np.asarray(self.names.true.sum(axis=0)))

    @cached_property
    def finding_names(self) -> tuple[str, ...]:
        """The names that are true at least once, sorted: the columns of `findings`."""
        return tuple(self.names.vocabulary[index] for index in self.supported)

    @cached_property
    def findings(self) -> Any:
        """csr_array [reports, 3 x findings]: true, named and correct of every finding that is true at least once."""
        return self.names.blocks(self.supported)

    @cached_property
    def never_true(self) -> dict[str, int]:
        """The other names that were predicted, with the number of reports that name them."""
        named = np.asarray(self.names.named.sum(axis=0))
        rest = np.setdiff1d(np.arange(len(named)), self.supported)
        return {self.names.vocabulary[index]: int(named[index]) for index in rest}


def _matrix(rows: Sequence[Sequence[int]], items: int) -> Any:
    """csr_array [rows, items] of ones at the numbered items."""
    ends = np.cumsum([0, *map(len, rows)])
    numbers = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(ends[-1]))
    return _ones(csr_array((np.ones(len(numbers)), numbers, ends), shape=(len(rows), items)))


def _ones(matrix: Any) -> Any:
    """The same cells, each once, with 1 in them."""
    matrix = csr_array(matrix)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
