"""Parallel coordinates: every run as a line through its choices, to the metric."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from xrayexp.drawing import AXIS, GREY, LABEL, drawn
from xrayexp.tracking.axis import nice_ticks
from xrayexp.tracking.page.runs.marks import Marks
from xrayexp.tracking.page.runs.style import CARD, FIFTHS
from xrayexp.tracking.sheet import Row, Sheet
from xrayexp.webpage import section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_AXES = 10
LEAST_ROWS, MANY_ROWS = 3, 80
NOWHERE = -0.16  # where a line passes an axis that its run has no value on


def section_of(sheet: Sheet) -> str:
    """The figure, where there are choices and enough runs."""
    axes = sheet.axes[:MOST_AXES]
    if not axes or len(sheet.rows) < LEAST_ROWS:
        return ""
    left_out = [axis.key for axis in sheet.axes[MOST_AXES:]]
    words = (
        f'<p class="quiet">Coloured by {escape(sheet.metric)}, a fifth of the {sheet.kind}s each. Below an axis pass '
        f"the {sheet.kind}s that have no such value; dashed are those that did not end well.</p>"
    )
    more = f'<p class="quiet">Not drawn: {escape(", ".join(left_out))}.</p>' if left_out else ""
    scroll = f'<div class="scroll wide">{_figure(sheet)}</div>'
    return section("Parallel coordinates", words + _legend() + scroll + more, "runs-parallel")


def _legend() -> str:
    bars = "".join(f'<i class="bar" style="background:var(--fifth{index})"></i>' for index in range(len(FIFTHS)))
    return f'<p class="legend"><span>worst fifth {bars} best fifth</span></p>'


def _figure(sheet: Sheet) -> str:
    marks, shown = Marks(sheet), sheet.axes[:MOST_AXES]
    with drawn(max(11.4, 1.4 * (len(shown) + 1)), 4.6) as figure:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set(xlim=(-0.35, len(shown) + 0.35), ylim=(NOWHERE - 0.08, 1.16))
        for place, axis in enumerate(shown):
            _axis(axes, place, axis.key, axis.ticks(), axis.gaps)
        unscored = any(math.isnan(sheet.value(row)) for row in sheet.rows)
        _axis(axes, len(shown), sheet.metric, _metric_ticks(sheet), unscored)
        for row in reversed(sheet.ordered()):
            _line(axes, marks, row)
        return marks.svg(figure, "runs-parallel-figure", f"choices of every {sheet.kind} and its {sheet.metric}")


def _axis(axes: Axes, place: int, title: str, ticks: list[tuple[float, str]], gaps: bool) -> None:
    axes.plot([place, place], [0, 1], color=AXIS, lw=1.2, zorder=1)
    head, dot, tail = title.rpartition(".")
    axes.text(place, 1.07, f"{head}{dot}\n{tail}" if head else tail, ha="center", va="center", parse_math=False)
    side = -1 if place == 0 else 1  # where no lines are
    for where, words in [*ticks, *([(NOWHERE, "\u2013")] if gaps else [])]:
        axes.text(
            place + side * 0.03, where, words, va="center", ha="left" if side > 0 else "right", fontsize=9, color=LABEL,
            zorder=5, parse_math=False, bbox={"facecolor": CARD, "alpha": 0.72, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _line(axes: Axes, marks: Marks, row: Row) -> None:
    """Grey and dashed where the run has no rank."""
    sheet = marks.sheet
    shown = sheet.axes[:MOST_AXES]
    places = [axis.place(row.choices[axis.key]) if axis.key in row.choices else NOWHERE for axis in shown]
    value = sheet.value(row)
    places.append(NOWHERE if math.isnan(value) else _metric_place(sheet, value))
    hue = marks.fifth(row)
    ranked = hue != GREY
    width = 1.7 if len(sheet.rows) < MANY_ROWS else 1.0
    axes.plot(
        range(len(places)), places, "-" if ranked else "--", color=hue, lw=width if ranked else 0.8,
        alpha=0.85 if ranked else 0.55, zorder=3 if ranked else 2, gid=marks.of(row),
    )  # fmt: skip


def _ends(sheet: Sheet) -> tuple[float, float]:
    values = [value for row in sheet.rows if not math.isnan(value := sheet.value(row))]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _metric_place(sheet: Sheet, value: float) -> float:
    """The better the higher."""
    low, high = _ends(sheet)
    place = 0.5 if low == high else (value - low) / (high - low)
    return place if sheet.sign > 0 else 1 - place


def _metric_ticks(sheet: Sheet) -> list[tuple[float, str]]:
    low, high = _ends(sheet)
    values = [low] if low == high else nice_ticks(low, high)
    return [(_metric_place(sheet, value), f"{value:g}") for value in values]
