"""The learning curves of all runs over each other."""

from __future__ import annotations

from xrayexp.drawing import GREY, drawn
from xrayexp.tracking.page.runs.marks import Marks
from xrayexp.tracking.sheet import Sheet
from xrayexp.webpage import section


def section_of(sheet: Sheet) -> str:
    """One figure, where any run was validated more than once."""
    if not any(len(row.curve) > 1 for row in sheet.rows):
        return ""
    marks = Marks(sheet)
    words = '<p class="quiet">Dashed: those that did not end well, up to where they were left.</p>'
    return section(
        "Learning curves", f'{words}{marks.legend()}<div class="scroll wide">{_figure(marks)}</div>', "runs-curves"
    )


def _figure(marks: Marks) -> str:
    sheet = marks.sheet
    with drawn(11.4, 4.4) as figure:
        axes = figure.subplots()
        for row in reversed(sheet.ordered()):
            if not row.curve:
                continue
            hue = marks.hue(row)
            steps, values = zip(*row.curve, strict=True)
            muted = hue == GREY
            axes.plot(
                steps, values, "--" if muted else "-", color=hue, lw=1.1 if muted else 1.6, alpha=0.6 if muted else 0.9,
                marker="o", ms=2.5, markevery=[len(steps) - 1], zorder=2 if muted else 3, gid=marks.of(row),
            )  # fmt: skip
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(sheet.metric, parse_math=False)
        axes.grid(axis="y", alpha=0.25)
        return marks.svg(figure, "runs-curves-figure", f"{sheet.metric} of every {sheet.kind} by optimiser step")
