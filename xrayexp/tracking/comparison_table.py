"""A comparison for the terminal: a table for every run beside the reference."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xrayexp.metrics.changes import Turn
from xrayexp.metrics.comparison import Difference
from xrayexp.metrics.scores import FINDINGS
from xrayexp.tracking.page.view import ShownRun, View

STYLES = {"better": "green", "worse": "red", "unclear": "dim", "untested": "dim"}
FINDINGS_SHOWN = 15  # the page and classes.csv have them all


def comparison_table(view: View) -> RenderableType:
    """What the page says, without its figures; precision and recall are on the page."""
    numbers = view.comparison
    parts: list[RenderableType] = [
        Text(f"{numbers.images:,} images of {numbers.patients:,} patients that all runs share, {view.split} split")
    ]
    parts += [Text(f"left out of {name}: {count:,} images") for name, count in numbers.dropped.items() if count]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in view.warnings]
    for run in view.others:
        parts += [Text(), *_of_run(view, run)]
    parts += [Text(f"{left_out}", style="yellow") for left_out in numbers.left_out]
    parts.append(Text(f"p: randomisation test by patient, Holm's correction over {numbers.tests} tests", style="dim"))
    return Group(*parts)


def _of_run(view: View, run: ShownRun) -> list[RenderableType]:
    found = view.comparison.runs[run.name]
    table = _table(f"{run.name} beside {view.runs[0].name}", "value", view)
    for key, definition in view.comparison.definitions.items():
        if definition.column in ("", "F1") and not math.isnan(found.values[key].difference):
            title = definition.title + (" (lower is better)" if definition.direction == "lower" else "")
            _add(table, title, found.values[key], view.verdict(found.values[key], definition))
    shown: list[RenderableType] = [table]
    if classes := found.classes.get(FINDINGS, ()):
        table = _table("F1 of the most frequent findings", "finding", view)
        for one in classes[:FINDINGS_SHOWN]:
            _add(table, f"{one.name} ({one.support:,})", one.f1, view.verdict(one.f1, None))
        shown.append(table)
    counts = ", ".join(f"{len(found.changes.of(turn)):,} {turn}" for turn in (Turn.GAINED, Turn.LOST))
    return [
        *shown,
        f"reports: {counts}, {found.changes.both_right:,} right and {found.changes.both_wrong:,} wrong in both",
    ]


def _table(title: str, first: str, view: View) -> Table:
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, title_style="bold")
    table.add_column(first, overflow="fold")
    interval = f"{100 * view.comparison.confidence:g}% interval"
    for head in ("reference", "run", "difference", interval, "p, corrected", "d"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("")
    return table


def _add(table: Table, title: str, one: Difference, verdict: str) -> None:
    ends = "-" if math.isnan(one.low) else f"{one.low:+.3f} to {one.high:+.3f}"
    numbers = (_number(one.reference), _number(one.other), _number(one.difference, "+.3f"), ends)
    p = "-" if math.isnan(one.adjusted) else "< 0.001" if one.adjusted < 0.001 else f"{one.adjusted:.3f}"
    table.add_row(Text(title), *numbers, p, _number(one.effect, "+.2f"), Text(verdict, style=STYLES[verdict]))


def _number(value: float, form: str = ".3f") -> str:
    return "-" if math.isnan(value) else format(value, form)
