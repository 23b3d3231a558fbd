"""The definitions of precision, recall and F1 of one kind, which share a row of the table."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from xrayexp.metrics.base import ALL_INVARIANTS, Definition, Invariant

NOT_LISTING = ALL_INVARIANTS - {Invariant.LISTING_DOES_NOT_WIN}
NONE_TRUE = "no report has a true finding"
NONE_NAMED = "no finding was named"
NEITHER = "no finding is true or named"
NO_REPORT = "no report was scored"
LISTING_WINS = "naming everything scores 1"


@dataclass(frozen=True, slots=True)
class Part:
    """What is said of one of the three: the unit that counts once, the sentence, and why it may not exist."""

    averages_over: str
    definition: str
    undefined: str


def row(
    prefix: str,
    title: str,
    *,
    precision: Part,
    recall: Part,
    f1: Part,
    weakness: str,
    caution: str,
    broken: Set[Invariant] = frozenset(),
    listing_wins: bool = True,
) -> tuple[Definition, ...]:
    """The three definitions.

    Args:
        prefix: of the names: `micro` gives `micro_precision`.
        title: of the row.
        weakness: of all three; recall's says besides that naming everything scores 1.
        caution: of precision and F1.
        broken: invariants that do not hold here, for any of the three.
        listing_wins: whether naming everything scores a recall of 1.
    """
    listed = {"recall"} if listing_wins else set()
    parts: dict[Literal["precision", "recall", "F1"], Part] = {"precision": precision, "recall": recall, "F1": f1}
    return tuple(
        Definition(
            name=f"{prefix}_{column.lower()}",
            title=f"{title} {column}",
            averages_over=part.averages_over,
            definition=part.definition,
            weakness=f"{weakness} Naming everything scores 1." if column in listed else weakness,
            caution=LISTING_WINS if column in listed else caution,
            undefined=part.undefined,
            invariants=(NOT_LISTING if column in listed else ALL_INVARIANTS) - broken,
            row=title,
            column=column,
        )
        for column, part in parts.items()
    )
