"""Training curves: what the runs logged, by optimiser step."""

from __future__ import annotations

from xrayexp.drawing import drawn, svg
from xrayexp.tracking.page.inline import RUN_COLOURS, colour, sign
from xrayexp.tracking.page.view import View
from xrayexp.webpage import section

TRAINING = ("train/loss", "train/lr")


def section_of(view: View) -> str:
    """A small figure for every curve that any run has: the loss, the learning rate and all validation scores."""
    names = dict.fromkeys(name for run in view.runs for name in run.curves)
    chosen = [name for name in TRAINING if name in names] + sorted(name for name in names if name.startswith("val/"))
    if not chosen:
        return ""
    legend = "".join(sign(run.name, i) for i, run in enumerate(view.runs) if run.curves)
    figures = "".join(f"<div>{_figure(view, name)}</div>" for name in chosen)
    return section("Training", f'<p class="legend">{legend}</p><div class="curves">{figures}</div>')


def _figure(view: View, name: str) -> str:
    with drawn(3.9, 2.5) as figure:
        axes = figure.subplots()
        for index, run in enumerate(view.runs):
            points = run.curves.get(name, ())
            steps, values = [step for step, _ in points], [value for _, value in points]
            style = "--" if index == 0 else "-"
            marker = "o" if len(points) < 30 else ""
            axes.plot(steps, values, style, color=RUN_COLOURS[index % len(RUN_COLOURS)], lw=1.6, marker=marker, ms=3)
        axes.set_title(name)
        axes.set_xlabel("optimiser step")
        axes.grid(axis="y", alpha=0.25)
        variables = {hue: colour(index) for index, hue in enumerate(RUN_COLOURS)}
        return svg(figure, name.replace("/", "-"), f"{name} by optimiser step", variables)
