"""What a metric is: columns that add up over reports, and a formula of their sums.

So one bootstrap of patients, one paired comparison and one table serve all metrics, of findings, text and boxes
alike: a resample of patients is a weighted sum of their rows, and one formula serves the value, its thousand
resamples and its jackknife. A metric that is no such formula hands over its values, and has no interval.

A metric is one class in a file of its own and one line in `conf/metrics/`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xrayexp.checks import Check
from xrayexp.metrics.report_set import ReportSet

Floats: TypeAlias = NDArray[np.floating]
Table: TypeAlias = Any  # NDArray, or scipy.sparse.csr_array where most cells are 0


class Invariant(StrEnum):
    """What a value promises, for any truth in which every report has a finding; a test holds it to that."""

    PERFECT_IS_BEST = "the truth as prediction has the best value"
    WRONG_BEATS_NOTHING = "reports whose findings are all false score no better than any others"
    ORDER_IS_IRRELEVANT = "the order of the findings of a report changes nothing"
    LISTING_DOES_NOT_WIN = "naming every finding there is, for every image, scores worse than the truth"


ALL_INVARIANTS = frozenset(Invariant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One number that a metric gives.

    Attributes:
        name: its key in metrics.json, unique among all metrics.
        title: its name in the table.
        averages_over: the unit that counts once.
        definition: one sentence.
        weakness: one sentence: what a good value does not show.
        caution: the weakness in the few words that fit the table.
        undefined: why a value may not exist.
        direction: which values are better; 'neither' for a description.
        lowest: of its values.
        highest: of its values; None without limit.
        invariants: what it promises.
        row: precision, recall and F1 of one kind share a row of the table; the row's title, empty for a row of its own.
        column: which of the three it is.
    """

    name: str
    title: str
    averages_over: str
    definition: str
    weakness: str
    caution: str
    undefined: str
    direction: Literal["higher", "lower", "neither"] = "higher"
    lowest: float = 0.0
    highest: float | None = 1.0
    invariants: frozenset[Invariant] = ALL_INVARIANTS
    row: str = ""
    column: Literal["", "precision", "recall", "F1"] = ""

    @property
    def range(self) -> str:
        """In words."""
        return f"{self.lowest:g} or more" if self.highest is None else f"{self.lowest:g} to {self.highest:g}"

    @property
    def best(self) -> float | None:
        """The best value there can be; None for a description or without limit."""
        return {"higher": self.highest, "lower": self.lowest, "neither": None}[self.direction]


@dataclass(frozen=True, slots=True)
class Classes:
    """Says that a table is three blocks of a column per class, true, named and correct: each class is scored as well.

    Attributes:
        names: of the classes, in the order of the columns.
        never_true: other classes that were named, with the number of reports that do. They have no columns: a model
            that babbles would make thousands.
    """

    names: tuple[str, ...]
    never_true: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sums:
    """A metric of some reports as a formula on sums.

    Attributes:
        table: [reports, columns], in the order of the reports. Metrics that hand over the same object share its
            resamples.
        formula: from sums [..., columns] to values [..., values], one for each definition; NaN where undefined.
        classes: what the columns are, where they are classes.
        details: what metrics.json says under the metric's name beside its values, such as a curve: strict JSON.
    """

    table: Table
    formula: Callable[[Floats], Floats]
    classes: Classes | None = None
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """Values that are no formula on sums, such as a mean average precision.

    Attributes:
        values: [values], one for each definition; NaN where undefined.
        no_interval: why they have no interval.
    """

    values: Floats
    no_interval: str


class Metric(ABC):
    """One metric, or a family as tight as precision, recall and F1 of one kind.

    Making one costs nothing: what it needs is loaded by `measure`.

    Attributes:
        name: what the metric is called where it is left out, and its key where it scores classes.
        definitions: its values, in the order of the formula's.
        wraps: package and version that computes it; None for this package.
        needs: what it needs beyond this package, in words: weights, a GPU, a package.
    """

    name: ClassVar[str]
    definitions: tuple[Definition, ...]
    wraps: str | None = None
    needs: tuple[str, ...] = ()

    def unavailable(self) -> Check | None:
        """What is missing and the one command that fetches it; None when the metric can be computed.

        Fast, without network: called before anything slow, and once more before scoring.
        """
        return None

    @abstractmethod
    def measure(self, reports: ReportSet) -> Sums | Fixed:
        """The metric of these reports.

        Raises:
            Exception: any; the metric is then left out with the reason, and the others are kept.
        """
