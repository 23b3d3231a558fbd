"""Every run on a line: the choices that differ first."""

from __future__ import annotations

import math
from collections import Counter
from html import escape

from xrayexp.search.importance import is_number
from xrayexp.tracking.axis import Axis
from xrayexp.tracking.choices import in_words
from xrayexp.tracking.page.runs.marks import Marks
from xrayexp.tracking.page.tables import Cell, Head, filter_box, grid, number
from xrayexp.tracking.sheet import FACTS, Row, Sheet
from xrayexp.webpage import Raw, section

FORMS = {"steps": ",.0f", "trainable_parameters": ",.0f", "fit_seconds": ",.1f", "fit_cpu_seconds": ",.1f"}
WORDS = (
    '<p class="quiet">The best first. A click on a head sorts; the box keeps the lines that hold all its words. '
    "A line's mark lights up in all figures below while the mouse rests on either; its box keeps it lit.</p>"
)


def section_of(sheet: Sheet) -> str:
    """The table, with what narrows it."""
    marks = Marks(sheet)
    facts = [name for name in FACTS if name not in sheet.objectives and any(name in row.facts for row in sheet.rows)]
    heads = [
        Head(sheet.kind, "number" if sheet.kind == "trial" else "text"),
        *(Head(axis.key, "text" if axis.words else "number") for axis in sheet.axes),
        *(Head(name, "number", f"{goal}: an objective") for name, goal in sheet.objectives.items()),
        Head("state", "text"),
        *(Head(FACTS[name], "number", name) for name in facts),
        *([Head("why", "text")] if any(row.reason for row in sheet.rows) else []),
    ]
    ordered = sheet.ordered()
    lines = [_line(sheet, row, facts) for row in ordered]
    attributes = [{"data-mark": marks.of(row), "data-kind": row.state} for row in ordered]
    title = "Trials" if sheet.kind == "trial" else "Runs and their choices"
    return section(title, WORDS + _narrowing(sheet) + grid("runs", heads, lines, attributes), "runs-table")


def _line(sheet: Sheet, row: Row, facts: list[str]) -> list[Cell]:
    box = f'<label><input type="checkbox" disabled aria-label="keep {escape(row.name)} lit">{escape(row.name)}</label>'
    key: float | str = float(row.name) if sheet.kind == "trial" else row.name
    partial = "" if row.ended_well or not row.values else " unclear"
    reason = [Cell(row.reason, row.reason or None, "why")] if any(one.reason for one in sheet.rows) else []
    return [
        Cell(Raw(box), key, "name short" if sheet.kind == "trial" else "name"),
        *(_choice(axis, row) for axis in sheet.axes),
        *(_value(row.values.get(name, math.nan), partial) for name in sheet.objectives),
        Cell(_state(row), row.state, "said"),
        *(number(row.fact(name), FORMS.get(name, ".3f")) for name in facts),
        *reason,
    ]


def _choice(axis: Axis, row: Row) -> Cell:
    if axis.key not in row.choices:
        return Cell("", None, "short" if axis.words else "n")
    value = row.choices[axis.key]
    words = f"{value:.3g}" if isinstance(value, float) else in_words(value)
    return Cell(words, float(value) if not axis.words and is_number(value) else words, "short" if axis.words else "n")


def _value(value: float, partial: str) -> Cell:
    cell = number(value)
    return Cell(cell.text, cell.value, f"n{partial}")


def _state(row: Row) -> str:
    return row.state.replace("_", " ") + (", but not feasible" if row.ended_well and not row.feasible else "")


def _narrowing(sheet: Sheet) -> str:
    counts = Counter(row.state for row in sheet.ordered())
    boxes = "".join(
        f'<label hidden><input type="checkbox" class="kind" data-of="runs" value="{escape(state)}" checked> '
        f"{escape(state.replace('_', ' '))} {count:,}</label>"
        for state, count in counts.items()
    )
    left = '<output id="runs-left" aria-live="polite"></output>'
    return f'<div class="narrowing">{filter_box("runs", f"filter {sheet.kind}s")}{boxes}{left}</div>'
