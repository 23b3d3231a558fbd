"""What the comparison page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xrayexp.metrics.base import Definition
from xrayexp.metrics.comparison import Comparison, Difference
from xrayexp.tracking.page.picture import Picture


@dataclass(frozen=True, slots=True)
class ShownRun:
    """One run.

    Attributes:
        name: as in the comparison.
        checkpoint: best, last or none; empty where it is not known.
        summary: the run in a few numbers, of summary.json; empty where there is none.
        curves: by name: what was logged, as (step, value).
        calibration: {ece, bins: [{probability, observed, count}]}; None where no finding has a probability.
    """

    name: str
    checkpoint: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All of it.

    Attributes:
        comparison: the numbers.
        runs: the reference first.
        choices: by key of the config: the value in each run, where they differ.
        warnings: one sentence each.
        split: what the runs were evaluated on.
        pictures: by image, of the examples.
        examples: how many are shown of each kind.
    """

    comparison: Comparison
    runs: tuple[ShownRun, ...]
    choices: Mapping[str, Mapping[str, str]]
    warnings: tuple[str, ...]
    split: str
    pictures: Mapping[str, Picture]
    examples: int

    @property
    def others(self) -> tuple[ShownRun, ...]:
        """All but the reference."""
        return self.runs[1:]

    @property
    def alpha(self) -> float:
        """Chance of any false alarm among the tests of a table."""
        return round(1 - self.comparison.confidence, 10)

    def verdict(self, difference: Difference, definition: Definition | None) -> str:
        """`better` or `worse` where the corrected test says so, else `unclear`, or `untested`.

        Args:
            difference: of a value.
            definition: which of its values are better; None for F1.
        """
        if difference.adjusted != difference.adjusted:  # NaN
            return "untested"
        if difference.adjusted > self.alpha:
            return "unclear"
        lower = definition is not None and definition.direction == "lower"
        return "better" if (difference.difference < 0) == lower else "worse"
