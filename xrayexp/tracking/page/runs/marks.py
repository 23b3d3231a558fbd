"""How runs are drawn: one mark for each in every figure, lit together with its line of the table."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from xrayexp.drawing import BLUE, GREY, svg
from xrayexp.tracking.axis import nice_ticks
from xrayexp.tracking.choices import in_words
from xrayexp.tracking.page.inline import RUN_COLOURS, colour
from xrayexp.tracking.page.runs.style import CARD, CARD_VARIABLE, FIFTHS
from xrayexp.tracking.sheet import Row, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIABLES = {
    **{hue: colour(index) for index, hue in enumerate(RUN_COLOURS)},
    **{hue: f"--fifth{index}" for index, hue in enumerate(FIFTHS)},
    CARD: CARD_VARIABLE,
}


class Marks:
    """The marks of a sheet's rows.

    Args:
        sheet: what is drawn.
    """

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self._ids = {row.name: f"run-{index}" for index, row in enumerate(sheet.rows)}
        self._fifths = _fifths(sheet)

    def of(self, row: Row) -> str:
        """What a row is called in all figures and in the table."""
        return self._ids[row.name]

    def words(self, row: Row) -> str:
        """A row in a line, said when the mouse rests on its mark."""
        sheet = self.sheet
        value = sheet.value(row)
        score = [] if math.isnan(value) else [f"{sheet.metric} {value:.3f}"]
        choices = [f"{key}={in_words(row.choices[key])}" for key in (a.key for a in sheet.axes) if key in row.choices]
        state = [] if row.ended_well else [row.state.replace("_", " ")]
        return f"{sheet.kind} {row.name}: {', '.join(score + state + choices)}"

    def hue(self, row: Row) -> str:
        """The colour of a row: that of its family; grey where it did not end well."""
        family = self.sheet.family
        if not row.ended_well or not row.feasible:
            return GREY
        if family is None or family.key not in row.choices:
            return BLUE
        return RUN_COLOURS[family.words.index(in_words(row.choices[family.key]))]

    def fifth(self, row: Row) -> str:
        """The colour of a row by its rank; grey where it has none."""
        return FIFTHS[self._fifths[row.name]] if row.name in self._fifths else GREY

    def legend(self) -> str:
        """What `hue` says."""
        family = self.sheet.family
        dots = [] if family is None else [_dot(colour(index), word) for index, word in enumerate(family.words)]
        title = [] if family is None else [f"<span>{escape(family.key)}:</span>"]
        others = [_dot("--grey", "did not end well")] if any(self.hue(row) == GREY for row in self.sheet.rows) else []
        return f'<p class="legend">{"".join(title + dots + others)}</p>' if dots or others else ""

    def point(self, axes: Axes, row: Row, x: float, y: float) -> None:
        """A row as a dot: full where it counts, hollow where not."""
        hue = self.hue(row)
        face = "none" if hue == GREY else hue
        axes.plot([x], [y], "o", ms=6, color=hue, markerfacecolor=face, alpha=0.85, gid=self.of(row))

    def svg(self, figure: Figure, name: str, title: str) -> str:
        """The figure, with its marks."""
        said = {self.of(row): self.words(row) for row in self.sheet.rows}
        return svg(figure, name, title, VARIABLES, said)


def metric_scale(axes: Axes, sheet: Sheet, rows: list[Row]) -> None:
    """Puts the metric of the rows on the y axis."""
    axes.set_ylabel(sheet.metric, parse_math=False)
    axes.grid(axis="y", alpha=0.25)
    values = [sheet.value(row) for row in rows]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05
    axes.set_ylim(low - room, high + room)
    axes.set_yticks(nice_ticks(low - room, high + room))


def with_score(sheet: Sheet) -> list[Row]:
    """The rows that have a value of the metric, those that count last, so that they lie above."""
    scored = [row for row in sheet.rows if not math.isnan(sheet.value(row))]
    return sorted(scored, key=lambda row: (row.ended_well and row.feasible, sheet.sign * sheet.value(row)))


def fact_words(value: float, form: str) -> str:
    """A number, or a dash for what is not known."""
    return "-" if math.isnan(value) else format(value, form)


def _fifths(sheet: Sheet) -> dict[str, int]:
    ranked: list[Any] = sheet.ranked()
    last = len(FIFTHS) - 1
    return {row.name: last - len(FIFTHS) * place // len(ranked) for place, row in enumerate(ranked)}


def _dot(variable: str, words: str) -> str:
    return f'<span><i class="of" style="background:var({variable})"></i>{escape(words)}</span>'
