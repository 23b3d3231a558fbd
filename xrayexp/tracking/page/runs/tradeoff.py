"""What a better metric costs: memory, time and further objectives, with the Pareto front."""

from __future__ import annotations

import math
import re
from html import escape

from xrayexp.drawing import LABEL, RED, drawn
from xrayexp.tracking.page.runs.marks import Marks, metric_scale, with_score
from xrayexp.tracking.sheet import MEMORY, SECONDS, Row, Sheet
from xrayexp.webpage import section

COSTS = {MEMORY: ("peak memory (GiB)", ".2f", " GiB"), SECONDS: ("training (seconds)", ",.0f", " s")}
LEAST_ROWS = 2


def section_of(sheet: Sheet) -> str:
    """A figure for each cost that is known, and the front in words."""
    marks = Marks(sheet)
    costs = [*COSTS, *(name for name in list(sheet.objectives)[1:] if name not in COSTS)]
    figures = "".join(f"<div>{found}</div>" for cost in costs if (found := _of_cost(marks, cost)))
    if not figures:
        return ""
    words = (
        f'<p class="quiet">The line is the Pareto front: whatever lies on it, no other {sheet.kind} is both cheaper '
        "and at least as good.</p>"
    )
    return section(
        "Metric against cost", f'{words}{marks.legend()}<div class="figures">{figures}</div>', "runs-tradeoff"
    )


def _of_cost(marks: Marks, cost: str) -> str:
    sheet = marks.sheet
    rows = [row for row in with_score(sheet) if not math.isnan(row.fact(cost))]
    if len(rows) < LEAST_ROWS:
        return ""
    title, form, unit = COSTS.get(cost, (cost, ".3f", ""))
    front = sheet.front(cost)
    steps = ", ".join(f"{row.name} ({format(row.fact(cost), form)}{unit}, {sheet.value(row):.3f})" for row in front)
    return f'{_figure(marks, cost, rows, front, title)}<p class="quiet">On the front: {escape(steps) or "none"}.</p>'


def _figure(marks: Marks, cost: str, rows: list[Row], front: list[Row], title: str) -> str:
    sheet = marks.sheet
    with drawn(5.6, 3.6) as figure:
        axes = figure.subplots()
        metric_scale(axes, sheet, rows)
        if front:
            # A step: up to the next one's cost the metric of the last one is the best.
            most = (min if sheet.objectives.get(cost) == "maximize" else max)(row.fact(cost) for row in rows)
            places = [*(row.fact(cost) for row in front), most]
            values = [*map(sheet.value, front), sheet.value(front[-1])]
            axes.plot(places, values, color=LABEL, lw=1.2, drawstyle="steps-post", zorder=1)
        for row in rows:
            marks.point(axes, row, row.fact(cost), sheet.value(row))
        budgets = {row.fact("budget_gib") for row in sheet.rows if "budget_gib" in row.facts}
        if cost == MEMORY and len(budgets) == 1:
            axes.axvline(*budgets, color=RED, lw=1, ls=":")
            axes.set_title("dotted: the budget", fontsize=9)
        axes.set_xlabel(title, parse_math=False)
        return marks.svg(
            figure, f"runs-{re.sub(r'[^a-z]+', '-', cost)}", f"{sheet.metric} by {title}, with the Pareto front"
        )
