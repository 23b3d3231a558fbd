"""The reports that one run gets right and another wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from xrayexp.metrics.samples import ScoredReport, compare


class Turn(StrEnum):
    """What became of a report. Right: exactly the true findings are named, wherever they are said to lie."""

    GAINED = "wrong to right"
    LOST = "right to wrong"
    BETTER = "wrong, but closer"
    WORSE = "wrong, and further off"


@dataclass(frozen=True, slots=True)
class Change:
    """One image that two runs describe differently.

    Attributes:
        reference: what the first run said.
        other: what the other run said.
        turn: what became of it.
        gain: F1 of the report's findings with the other run less that with the reference, -1 to 1.
    """

    reference: ScoredReport
    other: ScoredReport
    turn: Turn
    gain: float


@dataclass(frozen=True, slots=True)
class Changes:
    """Two runs, report by report.

    Attributes:
        both_right: number of reports that both name exactly.
        both_wrong: number that neither does.
        changed: those that turned or whose F1 did, the largest change of F1 first.
    """

    both_right: int
    both_wrong: int
    changed: tuple[Change, ...]

    def of(self, turn: Turn) -> tuple[Change, ...]:
        """Those of one kind."""
        return tuple(change for change in self.changed if change.turn is turn)


def changes(reference: Sequence[ScoredReport], other: Sequence[ScoredReport]) -> Changes:
    """Compares two runs, report by report.

    Args:
        reference: predictions of the first run.
        other: of the other, for the same images in the same order.
    """
    both_right = both_wrong = 0
    changed = []
    for one, two in zip(reference, other, strict=True):
        before, after = compare(one), compare(two)
        gain = (after.names.f1 or 0.0) - (before.names.f1 or 0.0)
        if before.exact_match == after.exact_match:
            both_right += before.exact_match
            both_wrong += not before.exact_match
            if gain == 0:
                continue
            turn = Turn.BETTER if gain > 0 else Turn.WORSE
        else:
            turn = Turn.GAINED if after.exact_match else Turn.LOST
        changed.append(Change(one, two, turn, gain))
    return Changes(both_right, both_wrong, tuple(sorted(changed, key=lambda change: -abs(change.gain))))
