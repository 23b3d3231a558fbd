"""A forest plot inside a table: each value's difference with its interval, on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from xrayexp.metrics.base import Definition
from xrayexp.metrics.comparison import Difference
from xrayexp.tracking.page.inline import WORDS, interval, interval_axis, nice_limit, sign
from xrayexp.tracking.page.tables import Cell, Head, grid, number, two_lines
from xrayexp.tracking.page.view import View
from xrayexp.webpage import Raw, section

Row = tuple[Definition, Difference]


def section_of(view: View) -> str:
    """A table for every run beside the reference; precision and recall below, folded."""
    if not view.comparison.definitions:
        return ""
    words = (
        f'<p class="quiet">Run less reference, with {100 * view.comparison.confidence:g}% intervals. p: paired '
        f"randomisation test, corrected by Holm for all {view.comparison.tests} tests of this section. d: Cohen's "
        "d<sub>z</sub>, the difference in standard deviations of what one patient adds to it.</p>"
    )
    return section("Differences", words + "".join(_of_run(view, i) for i in range(1, len(view.runs))), "differences")


def _of_run(view: View, index: int) -> str:
    run = view.runs[index]
    found = view.comparison.runs[run.name].values
    rows = [(one, found[key]) for key, one in view.comparison.definitions.items()]
    exist = [row for row in rows if not math.isnan(row[1].difference)]
    plain = [row for row in exist if row[0].column in ("", "F1")]
    parts = [row for row in exist if row[0].column in ("precision", "recall")]
    limit = _limit(exist)
    shown = _table(view, index, f"differences-{index}", plain, limit)
    if parts:
        rest = _table(view, index, f"parts-{index}", parts, limit)
        shown += f"<details><summary>precision and recall, {len(parts)} more values</summary>{rest}</details>"
    absent = [one.title for one, difference in rows if math.isnan(difference.difference)]
    if absent:
        shown += f'<p class="quiet">Not defined on these images: {escape(", ".join(absent))}.</p>'
    title = f"{sign(run.name, index)} beside {sign(view.runs[0].name, 0)}"
    opened = " open" if index == 1 else ""
    return f"<details{opened}><summary>{title}</summary>{shown}</details>" if len(view.runs) > 2 else shown


def _limit(rows: Sequence[Row]) -> float:
    """Of the common scale: values from 0 to 1 alone, as others are no shares."""
    ends = [end for one, d in rows if one.highest == 1 for end in (d.difference, d.low, d.high) if not math.isnan(end)]
    return nice_limit(max((abs(end) for end in ends), default=0.0))


def _table(view: View, index: int, name: str, rows: Sequence[Row], limit: float) -> str:
    confidence = f"{100 * view.comparison.confidence:g}%"
    heads = [
        Head("value", "text"),
        Head(Raw(interval_axis(limit))),
        Head(Raw(sign("reference", 0)), "number", view.runs[0].name),
        Head(Raw(sign("run", index)), "number", view.runs[index].name),
        Head("difference", "number"),
        Head(confidence + " interval"),
        Head("p, corrected", "number"),
        Head("d", "number", "Cohen's d_z"),
        Head("", "text"),
    ]
    return grid(name, heads, [_row(view, definition, difference, limit) for definition, difference in rows])


def _row(view: View, definition: Definition, difference: Difference, limit: float) -> list[Cell]:
    verdict = view.verdict(difference, definition)
    share = definition.highest == 1
    below = "lower is better" if definition.direction == "lower" else ""
    drawing = interval(difference.difference, difference.low, difference.high, limit, verdict) if share else ""
    ends = "-" if math.isnan(difference.low) else f"{difference.low:+.3f} to {difference.high:+.3f}"
    return [
        Cell(
            Raw(f'<span title="{escape(definition.definition)}">{two_lines(definition.title, below)}</span>'),
            definition.title,
            "name",
        ),
        Cell(Raw(drawing)),
        number(difference.reference),
        number(difference.other),
        number(difference.difference, "+.3f"),
        Cell(ends, kind="n"),
        p_value(difference.adjusted),
        number(difference.effect, "+.2f"),
        Cell(Raw(f'<span class="{verdict}">{WORDS[verdict]}</span>'), verdict, "said"),
    ]


def p_value(p: float) -> Cell:
    """A p-value as journals print it."""
    return Cell("-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}", p, "n")
