"""The reports that turned: right to wrong, wrong to right, and those that came closer or went further off."""

from __future__ import annotations

from collections.abc import Sequence

from xrayexp.metrics.changes import Change, Changes, Turn
from xrayexp.tracking.page.cards import LEGEND, card
from xrayexp.tracking.page.inline import sign
from xrayexp.tracking.page.view import View
from xrayexp.webpage import section


def shown_examples(changes: Changes, most: int) -> dict[Turn, tuple[Change, ...]]:
    """Those that the page has room for, the largest changes first."""
    return {turn: changes.of(turn)[:most] for turn in Turn}


def section_of(view: View) -> str:
    """Counts and examples for every run beside the reference."""
    words = (
        '<p class="quiet">A report is right when it names exactly the true findings, wherever it says that they lie. '
        "The largest changes of the report's F1 come first; changes.csv has all.</p>"
    )
    return section(
        "Examples that changed", words + LEGEND + "".join(_of_run(view, i) for i in range(1, len(view.runs)))
    )


def _of_run(view: View, index: int) -> str:
    run = view.runs[index]
    changes = view.comparison.runs[run.name].changes
    unchanged = f'<p class="quiet">Both right: {changes.both_right:,}. Both wrong: {changes.both_wrong:,}.</p>'
    kinds = "".join(
        _kind(view, index, turn, some, len(changes.of(turn)))
        for turn, some in shown_examples(changes, view.examples).items()
    )
    title = f"<h3>{sign(run.name, index)}</h3>" if len(view.runs) > 2 else ""
    return title + unchanged + kinds


def _kind(view: View, index: int, turn: Turn, some: Sequence[Change], count: int) -> str:
    if not count:
        return ""
    headings = sign(view.runs[0].name, 0), sign(view.runs[index].name, index)
    cards = "".join(
        card(
            view.pictures[change.reference.image_id],
            list(zip(headings, (change.reference, change.other), strict=True)),
            f"F1 of this report {change.gain:+.2f}",
        )
        for change in some
    )
    more = f", {len(some)} shown" if len(some) < count else ""
    opened = " open" if turn in (Turn.GAINED, Turn.LOST) and index == 1 else ""
    return f"<details{opened}><summary>{turn}: {count:,}{more}</summary>{cards}</details>"
