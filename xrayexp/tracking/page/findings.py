"""Dumbbells: the F1 of every finding in the run and in the reference."""

from __future__ import annotations

import math
from html import escape

from xrayexp.metrics.comparison import MIN_SUPPORT, ClassDifference
from xrayexp.metrics.scores import FINDINGS
from xrayexp.tracking.page.forest import p_value
from xrayexp.tracking.page.inline import WORDS, dumbbell, dumbbell_axis, sign
from xrayexp.tracking.page.tables import Cell, Head, grid, number
from xrayexp.tracking.page.view import View
from xrayexp.webpage import Raw, section

TITLES = {FINDINGS: "Findings", "chexpert": "CheXpert's observations"}


def section_of(view: View) -> str:
    """A section for each metric that scores classes, PadChest's findings first; a table for every run."""
    metrics = view.comparison.runs[view.others[0].name].classes
    ordered = sorted(metrics, key=lambda metric: metric != FINDINGS)
    return "".join(_section(view, metric) for metric in ordered if metrics[metric])


def _section(view: View, metric: str) -> str:
    words = (
        f'<p class="quiet">F1. Those that are true in at least {MIN_SUPPORT} images are tested, and corrected by Holm '
        "for each other, run by run.</p>"
    )
    tables = "".join(_of_run(view, metric, index) for index in range(1, len(view.runs)))
    return section(TITLES.get(metric, metric), words + tables, escape(metric))


def _of_run(view: View, metric: str, index: int) -> str:
    run = view.runs[index]
    found = [one for one in view.comparison.runs[run.name].classes[metric] if not math.isnan(one.f1.difference)]
    heads = [
        Head(metric.removesuffix("s") if metric == FINDINGS else "observation", "text"),
        Head(Raw(dumbbell_axis())),
        Head("true", "number", "images in which it is true"),
        Head(Raw(sign("reference", 0)), "number", view.runs[0].name),
        Head(Raw(sign("run", index)), "number", run.name),
        Head("difference", "number"),
        Head(f"{100 * view.comparison.confidence:g}% interval"),
        Head("p, corrected", "number"),
        Head("", "text"),
    ]
    table = grid(f"{metric}-{index}", heads, [_row(view, one) for one in found])
    if len(view.runs) < 3:
        return table
    opened = " open" if index == 1 else ""
    return f"<details{opened}><summary>{sign(run.name, index)}</summary>{table}</details>"


def _row(view: View, one: ClassDifference) -> list[Cell]:
    verdict = view.verdict(one.f1, None)
    ends = "-" if math.isnan(one.f1.low) else f"{one.f1.low:+.3f} to {one.f1.high:+.3f}"
    return [
        Cell(one.name, one.name, "name"),
        Cell(Raw(dumbbell(one.f1.reference, one.f1.other, verdict))),
        Cell(f"{one.support:,}", one.support, "n"),
        number(one.f1.reference),
        number(one.f1.other),
        number(one.f1.difference, "+.3f"),
        Cell(ends, kind="n"),
        p_value(one.f1.adjusted),
        Cell(Raw(f'<span class="{verdict}">{WORDS[verdict]}</span>'), verdict, "said"),
    ]
