"""How the best so far grew from trial to trial."""

from __future__ import annotations

from html import escape

from xrayexp.drawing import LABEL, drawn
from xrayexp.tracking.page.runs.marks import Marks, metric_scale, with_score
from xrayexp.tracking.sheet import Sheet
from xrayexp.webpage import section


def section_of(sheet: Sheet) -> str:
    """One figure, of a sweep."""
    if sheet.kind != "trial" or len(sheet.ranked()) < 2:
        return ""
    marks = Marks(sheet)
    words = f'<p class="quiet">The line is the best {escape(sheet.metric)} so far.</p>'
    return section("History", f'{words}{marks.legend()}<div class="scroll wide">{_figure(marks)}</div>', "runs-history")


def best_so_far(sheet: Sheet) -> tuple[list[int], list[float]]:
    """The numbers of the trials that were better than all before, and their values."""
    numbers: list[int] = []
    values: list[float] = []
    for row in sorted(sheet.ranked(), key=lambda row: int(row.name)):
        if not values or sheet.sign * sheet.value(row) > sheet.sign * values[-1]:
            numbers.append(int(row.name))
            values.append(sheet.value(row))
    return numbers, values


def _figure(marks: Marks) -> str:
    sheet, rows = marks.sheet, with_score(marks.sheet)
    with drawn(11.4, 3.2) as figure:
        axes = figure.subplots()
        metric_scale(axes, sheet, rows)
        numbers, values = best_so_far(sheet)
        last = max(int(row.name) for row in rows)
        axes.plot([*numbers, last], [*values, values[-1]], color=LABEL, lw=1.2, drawstyle="steps-post", zorder=1)
        for row in rows:
            marks.point(axes, row, int(row.name), sheet.value(row))
        axes.set_xlabel("trial")
        return marks.svg(figure, "runs-history-figure", f"{sheet.metric} by trial, with the best so far")
