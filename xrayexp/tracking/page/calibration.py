"""Reliability: how often a finding is there when the model gives it so much probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xrayexp.drawing import GREY, drawn, svg
from xrayexp.tracking.page.inline import RUN_COLOURS, colour, sign
from xrayexp.tracking.page.tables import Cell, Head, grid, number
from xrayexp.tracking.page.view import View
from xrayexp.webpage import Raw, section

WORDS = (
    '<p class="quiet">Named findings by their probability (of their names, or where reports were drawn at random the '
    "share of these), in bins of equal width, and the share of each bin that is true. Below the dotted line a run is "
    "surer than it is right. Nothing is said of findings that are not named.</p>"
)


def section_of(view: View) -> str:
    """A curve for every run whose findings have probabilities."""
    runs = [(index, run.name, run.calibration) for index, run in enumerate(view.runs) if run.calibration is not None]
    if not runs:
        return ""
    rows = [
        [Cell(Raw(sign(name, index)), name), _findings(found), number(float(found["ece"]))]
        for index, name, found in runs
    ]
    heads = [Head("run", "text"), Head("named findings", "number"), Head("expected calibration error", "number")]
    table = grid("calibration", heads, rows)
    with drawn(4.2, 3.9) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], ":", color=GREY, lw=1)
        for index, _, found in runs:
            bins = [one for one in found["bins"] if one["count"]]
            hue = RUN_COLOURS[index % len(RUN_COLOURS)]
            style = "--" if index == 0 else "-"
            axes.plot(
                [one["probability"] for one in bins],
                [one["observed"] for one in bins],
                style,
                color=hue,
                marker="o",
                ms=4,
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="probability given", ylabel="share that is true")
        axes.set_aspect("equal")
        variables = {hue: colour(index) for index, hue in enumerate(RUN_COLOURS)}
        drawing = svg(figure, "calibration", "reliability of every run", variables)
    return section("Calibration", f'{WORDS}<div class="columns"><div>{drawing}</div><div>{table}</div></div>')


def _findings(found: Mapping[str, Any]) -> Cell:
    count = sum(one["count"] for one in found["bins"])
    return Cell(f"{count:,}", count, "n")
