"""One report finding by finding: right, wrong place, missed, invented; and how wrong that makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from xrayexp.data.report import NORMAL, Finding
from xrayexp.metrics.samples import ScoredReport

WRONG_PLACE_WEIGHS = 0.5  # of a finding that is missed


class Mark(StrEnum):
    """What a prediction makes of a finding."""

    RIGHT = "right"
    MISPLACED = "wrong place"
    MISSED = "missed"
    INVENTED = "invented"


@dataclass(frozen=True, slots=True)
class Marked:
    """One finding of the truth or of the prediction.

    Attributes:
        name: the finding.
        mark: what the prediction makes of it.
        true: where it lies; empty for an invented one.
        named: where the prediction says that it lies; empty for a missed one.
    """

    name: str
    mark: Mark
    true: tuple[str, ...]
    named: tuple[str, ...]


def marked(report: ScoredReport) -> tuple[Marked, ...]:
    """The true findings in their order, then the invented ones in theirs.

    A finding that stands twice in a report, for two places, counts once, with both.
    """
    true = _places(report.truth.findings)
    named = _places(report.predicted.findings if report.predicted is not None else ())
    found = [Marked(name, _mark(places, named.get(name)), places, named.get(name, ())) for name, places in true.items()]
    found += [Marked(name, Mark.INVENTED, (), places) for name, places in named.items() if name not in true]
    return tuple(found)


def wrongness(report: ScoredReport, weight: Callable[[str], float]) -> float:
    """The weight of what is missed or invented, and half of that of what is in the wrong place; 0 for none of these.

    'normal' weighs nothing beside a finding that is missed or invented, which says the same. A prediction that cannot
    be read misses everything, 'normal' included.

    Args:
        report: the prediction and its truth.
        weight: of a finding's name, such as the metric `Relevance` gives it.
    """
    cost = {Mark.RIGHT: 0.0, Mark.MISPLACED: WRONG_PLACE_WEIGHS, Mark.MISSED: 1.0, Mark.INVENTED: 1.0}
    found = marked(report)
    said = any(one.mark in (Mark.MISSED, Mark.INVENTED) and one.name != NORMAL for one in found)
    counted = [one for one in found if report.predicted is None or one.name != NORMAL or not said]
    return sum(cost[one.mark] * weight(one.name) for one in counted)


def _places(findings: Iterable[Finding]) -> dict[str, tuple[str, ...]]:
    places: dict[str, tuple[str, ...]] = {}
    for finding in findings:
        places[finding.name] = tuple(dict.fromkeys((*places.get(finding.name, ()), *finding.locations)))
    return places


def _mark(true: tuple[str, ...], named: tuple[str, ...] | None) -> Mark:
    if named is None:
        return Mark.MISSED
    return Mark.RIGHT if set(true) == set(named) else Mark.MISPLACED
