"""A sheet: many runs, or the trials of a sweep, by what each of them chose, cost and reached in validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from xrayexp.search.importance import Importance
from xrayexp.search.results import COMPLETE, Direction
from xrayexp.tracking.axis import Axis
from xrayexp.tracking.record import FINISHED
from xrayexp.tracking.savings import Savings

MEMORY, SECONDS, CPU_SECONDS = "peak_memory_gib", "fit_seconds", "fit_cpu_seconds"
PREDICTED, STEPS, PARAMETERS = "predicted_memory_gib", "steps", "trainable_parameters"
FACTS = {
    MEMORY: "GiB at most",
    PREDICTED: "GiB predicted",
    SECONDS: "seconds",
    CPU_SECONDS: "CPU seconds",
    STEPS: "steps",
    PARAMETERS: "trained parameters",
}
MOST_FAMILIES = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One run or trial.

    Attributes:
        name: short, and unlike that of the others.
        state: of a trial or of a run, see search.results and tracking.record.
        choices: by key of the config; what differs from other rows.
        values: by objective; of one that did not end well the last or the best so far, if any.
        facts: by name, see `FACTS`; only what is known.
        curve: (step, value) of the first objective.
        feasible: whether no constraint forbids it.
        path: its folder, as a command on this machine would name it; empty where there is none.
        reason: why it did not end well, one line.
    """

    name: str
    state: str
    choices: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[tuple[int, float]] = ()
    feasible: bool = True
    path: str = ""
    reason: str = ""

    @property
    def ended_well(self) -> bool:
        """Whether it went all the way, so that its values can be compared with those of others."""
        return self.state in (COMPLETE, FINISHED)

    def fact(self, name: str) -> float:
        """A fact, or another objective than the first; NaN where it is not known."""
        return self.facts.get(name, self.values.get(name, math.nan))


@dataclass(frozen=True, slots=True)
class Sheet:
    """All of it.

    Attributes:
        title: of the page about it.
        kind: what a row is.
        objectives: by metric, the first one first.
        rows: in the order in which they began.
        axes: the choices that differ.
        importance: of the choices, by name.
        about: what all rows share, one sentence each.
        warnings: one sentence each.
        savings: of a sweep: what was not computed.
        branching: the choices that decide which others there are.
    """

    title: str
    kind: Literal["run", "trial"]
    objectives: Mapping[str, Direction]
    rows: tuple[Row, ...]
    axes: tuple[Axis, ...]
    importance: Importance = field(default_factory=Importance)
    about: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    savings: Savings | None = None
    branching: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """The first objective."""
        return next(iter(self.objectives))

    @property
    def sign(self) -> int:
        """1 where a larger value of the metric is better, -1 where a smaller one is."""
        return 1 if self.objectives[self.metric] == "maximize" else -1

    def value(self, row: Row) -> float:
        """Of the metric; NaN where there is none."""
        return row.values.get(self.metric, math.nan)

    def ranked(self) -> list[Row]:
        """The rows that ended well, are allowed and have a score: the best first, the earliest of equals."""
        scored = [row for row in self.rows if row.ended_well and row.feasible and not math.isnan(self.value(row))]
        return sorted(scored, key=lambda row: -self.sign * self.value(row))

    def ordered(self) -> list[Row]:
        """All rows: those of `ranked`, then the others."""
        ranked = self.ranked()
        names = {row.name for row in ranked}
        return [*ranked, *(row for row in self.rows if row.name not in names)]

    def front(self, cost: str) -> list[Row]:
        """The Pareto front: of `ranked`, those that no other surpasses in the metric at no higher cost.

        Args:
            cost: a fact, or another objective; its direction says what is cheap.

        Returns:
            The cheapest first.
        """
        best, found = -math.inf, []
        dear = -1 if self.objectives.get(cost) == "maximize" else 1
        priced = [row for row in self.ranked() if not math.isnan(row.fact(cost))]
        for row in sorted(priced, key=lambda row: (dear * row.fact(cost), -self.sign * self.value(row))):
            if self.sign * self.value(row) > best:
                best = self.sign * self.value(row)
                found.append(row)
        return found

    @property
    def family(self) -> Axis | None:
        """The choice by which figures are coloured: one of few words that all rows have, best one that branches."""
        fit = [axis for axis in self.axes if axis.words and not axis.gaps and len(axis.words) <= MOST_FAMILIES]
        return next((axis for axis in fit if axis.key in self.branching), fit[0] if fit else None)
