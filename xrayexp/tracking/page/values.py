"""Every value of every run, where there are more than two: one table to find the best."""

from __future__ import annotations

import math

from xrayexp.tracking.page.inline import WORDS, sign
from xrayexp.tracking.page.tables import Cell, Head, grid, number, two_lines
from xrayexp.tracking.page.view import View
from xrayexp.webpage import Raw, section


def section_of(view: View) -> str:
    """A row for each value, a column for each run."""
    if len(view.runs) < 3 or not view.comparison.definitions:
        return ""
    heads = [Head("value", "text"), *(Head(Raw(sign(run.name, i)), "number") for i, run in enumerate(view.runs))]
    rows = []
    for key, definition in view.comparison.definitions.items():
        values = [view.comparison.values[run.name][key] for run in view.runs]
        if all(math.isnan(value) for value in values):
            continue
        below = "lower is better" if definition.direction == "lower" else ""
        rows.append([Cell(two_lines(definition.title, below), definition.title, "name"), number(values[0])])
        rows[-1] += [_cell(view, run.name, key) for run in view.others]
    words = '<p class="quiet">Marked: better or worse than the reference after correction.</p>'
    return section("All values", words + grid("values", heads, rows))


def _cell(view: View, run: str, key: str) -> Cell:
    difference = view.comparison.runs[run].values[key]
    verdict = view.verdict(difference, view.comparison.definitions[key])
    shown = number(difference.other)
    if verdict not in ("better", "worse"):
        return shown
    return Cell(Raw(f'<b class="{verdict}" title="{verdict}">{WORDS[verdict][0]} {shown.text}</b>'), shown.value, "n")
