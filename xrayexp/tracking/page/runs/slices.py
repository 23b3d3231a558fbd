"""Slices: the metric against each choice by itself."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from xrayexp.drawing import LABEL, drawn
from xrayexp.tracking.axis import Axis
from xrayexp.tracking.choices import in_words
from xrayexp.tracking.page.runs.marks import Marks, metric_scale, with_score
from xrayexp.tracking.sheet import Row, Sheet
from xrayexp.webpage import section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_AXES = 10
LEAST_ROWS = 3
EDGE = 0.08  # of the axis, beyond its first and last value


def section_of(sheet: Sheet) -> str:
    """A small figure for every choice, where there are enough runs."""
    rows = with_score(sheet)
    if not sheet.axes or len(rows) < LEAST_ROWS:
        return ""
    words = '<p class="quiet">A bar is the median of those that ended well.</p>' if any(
        axis.words for axis in sheet.axes
    ) else ""  # fmt: skip
    marks = Marks(sheet)
    figures = "".join(f"<div>{_figure(marks, axis, rows, i)}</div>" for i, axis in enumerate(sheet.axes[:MOST_AXES]))
    return section("Slices", f'{words}{marks.legend()}<div class="figures">{figures}</div>', "runs-slices")


def _figure(marks: Marks, axis: Axis, rows: list[Row], index: int) -> str:
    having = [row for row in rows if axis.key in row.choices]
    with drawn(3.9, 2.7) as figure:
        axes = figure.subplots()
        if axis.words:
            _medians(axes, marks.sheet, axis, having)
        for row in having:
            marks.point(axes, row, axis.place(row.choices[axis.key]), marks.sheet.value(row))
        axes.set_xlim(-EDGE, 1 + EDGE)
        places, words = zip(*axis.ticks(), strict=True)
        crowded = sum(map(len, words)) > 34
        turn, side = (25, "right") if crowded else (0, "center")
        axes.set_xticks(places, words, parse_math=False, rotation=turn, ha=side)
        axes.set_xlabel(axis.key, parse_math=False)
        metric_scale(axes, marks.sheet, rows)
        return marks.svg(figure, f"runs-slice-{index}", f"{marks.sheet.metric} by {axis.key}")


def _medians(axes: Axes, sheet: Sheet, axis: Axis, rows: list[Row]) -> None:
    for word in axis.words:
        values = [sheet.value(row) for row in rows if row.ended_well and in_words(row.choices[axis.key]) == word]
        if values:
            place = axis.place(word)
            axes.plot([place - 0.05, place + 0.05], [median(values)] * 2, color=LABEL, lw=2)
