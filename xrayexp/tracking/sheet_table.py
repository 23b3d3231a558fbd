"""A sheet for the terminal, and as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xrayexp.tracking.choices import in_words
from xrayexp.tracking.page.runs.intro import answer, optimism
from xrayexp.tracking.page.runs.savings import sentences
from xrayexp.tracking.sheet import FACTS, MEMORY, SECONDS, Row, Sheet

SHOWN = 10  # rows; the page and runs.csv have them all
MOST_CHOICES = 6


def sheet_table(sheet: Sheet) -> RenderableType:
    """The best rows, with the first choices that differ, and what the page says in sentences."""
    axes = sheet.axes[:MOST_CHOICES]
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column(sheet.kind, overflow="fold")
    for axis in axes:
        shown.add_column(Text(axis.key), justify="left" if axis.words else "right", overflow="fold")
    for name in sheet.objectives:
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("state", no_wrap=True)
    costs = [name for name in (MEMORY, SECONDS) if name not in sheet.objectives]
    for name in costs:
        shown.add_column(FACTS[name], justify="right", no_wrap=True)
    ordered = sheet.ordered()
    for row in ordered[:SHOWN]:
        choices = (Text(_words(row, axis.key)) for axis in axes)
        values = (_number(row.values.get(name, math.nan)) for name in sheet.objectives)
        shown.add_row(
            Text(row.name), *choices, *values, row.state.replace("_", " "), *map(_number, map(row.fact, costs))
        )
    more = [f"{len(ordered) - SHOWN} more on the page"] if len(ordered) > SHOWN else []
    warnings = [Text(f"warning: {one}", style="yellow") for one in (*sheet.warnings, *optimism(sheet))]
    about = [Text(one) for one in sheet.about]
    saved = [Text(one) for one in sentences(sheet.savings)] if sheet.savings is not None else []
    return Group(Text(f"{sheet.title}. {answer(sheet)}", style="bold"), *about, shown, *more, *saved, *warnings)


def sheet_csv(sheet: Sheet) -> tuple[Sequence[str], Iterator[Sequence[object]]]:
    """The heads and the rows, best first, with full precision; empty is what a row does not have."""
    facts = [name for name in FACTS if name not in sheet.objectives]
    keys = [axis.key for axis in sheet.axes]
    heads = [sheet.kind, *keys, *sheet.objectives, "state", *facts, "reason"]
    rows = (
        [
            row.name,
            *(row.choices.get(key, "") for key in keys),
            *(row.values.get(name, "") for name in sheet.objectives),
            row.state,
            *(row.facts.get(name, "") for name in facts),
            row.reason,
        ]
        for row in sheet.ordered()
    )
    return heads, rows


def _words(row: Row, key: str) -> str:
    if key not in row.choices:
        return ""
    value = row.choices[key]
    return f"{value:.3g}" if isinstance(value, float) else in_words(value)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
