"""The picture of the study: learning curves with their intervals, and the differences to a random order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from experiments.curriculum.claims import CURRICULA, OUTCOMES, REFERENCE, differences, interval, of
from experiments.embedded_default.figures import DPI, FAINT, INK, STYLE, save
from experiments.results import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {REFERENCE: INK, "easy_to_hard": "#0969da", "hard_first": "#bc4c00", "paced": "#8250df"}


def draw(rows: Rows, file: Path) -> None:
    """Both panels."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4), dpi=DPI, layout="constrained")
        curves, forest = figure.subplots(1, 2, width_ratios=(3, 2))
        _curves(curves, rows)
        _forest(forest, rows)
        for axes in (curves, forest):
            axes.set_axisbelow(True)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
        save(figure, file)


def _curves(axes: Axes, rows: Rows) -> None:
    """The mean over the seeds by step, in its interval."""
    for name, title in CURRICULA.items():
        found = of(rows, name)
        steps = found[0]["validated"]
        low, mean, high = interval(np.array([values["validation"]["micro_f1"] for values in found]))
        axes.fill_between(steps, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        axes.plot(steps, mean, color=COLOURS[name], linewidth=1.6, label=title)
    axes.set_title("validation micro F1 by step, mean and 95 % interval", loc="left", fontsize=9)
    axes.set_ylim(0, 1.02)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.legend(frameon=False, loc="lower right")


def _forest(axes: Axes, rows: Rows) -> None:
    """Each difference with its interval."""
    found = differences(rows)
    for place, ((name, _), difference) in enumerate(found.items()):
        axes.plot([difference.low, difference.high], [place, place], color=COLOURS[name], linewidth=2.2, alpha=0.45)
        axes.plot(difference.mean, place, "o", color=COLOURS[name], markersize=5)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(found)), [f"{CURRICULA[name]}\n{OUTCOMES[outcome]}" for name, outcome in found])
    axes.set_title("difference to a random order, 95 % interval", loc="left", fontsize=9)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.invert_yaxis()
