"""The picture of the study: the best score so far, by trials and by CPU seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from experiments.embedded_default.figures import DPI, FAINT, INK, STYLE, save
from experiments.results import Rows
from experiments.sweep_quality.claims import ARMS, best_so_far, of, seconds_so_far

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"random": INK, "tpe": "#bc4c00", "tpe_constrained": "#0969da", "gp": "#8250df"}


def draw(rows: Rows, file: Path) -> None:
    """Both panels."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4), dpi=DPI, layout="constrained")
        by_trials, by_seconds = figure.subplots(1, 2, sharey=True)
        _by_trials(by_trials, rows)
        _by_seconds(by_seconds, rows)
        lowest = min(best_so_far(one)[len(best_so_far(one)) // 3] for arm in ARMS for one in of(rows, arm))
        by_trials.set_ylim(max(0.0, lowest - 0.05), 1.0)
        for axes in (by_trials, by_seconds):
            axes.set_axisbelow(True)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.grid(color=FAINT, linewidth=0.6)
        figure.legend(*by_trials.get_legend_handles_labels(), frameon=False, ncols=2, loc="outside lower center")
        save(figure, file)


def _by_trials(axes: Axes, rows: Rows) -> None:
    """The mean over the seeds, and each seed thinly."""
    for arm, (title, _, _) in ARMS.items():
        curves = np.array([best_so_far(one) for one in of(rows, arm)])
        number = np.arange(1, curves.shape[1] + 1)
        for curve in curves:
            axes.step(number, curve, where="post", color=COLOURS[arm], linewidth=0.7, alpha=0.35)
        axes.step(number, curves.mean(axis=0), where="post", color=COLOURS[arm], linewidth=1.8, label=title)
    axes.set_title("best validation micro F1 that fits, by trials", loc="left", fontsize=9)


def _by_seconds(axes: Axes, rows: Rows) -> None:
    """The mean over the seeds at equal time, and each seed thinly."""
    for arm in ARMS:
        sweeps = of(rows, arm)
        end = min(seconds_so_far(one)[-1] for one in sweeps)
        grid = np.linspace(0, end, 200)
        at = [np.searchsorted(seconds_so_far(one), grid, side="right") for one in sweeps]
        curves = [np.concatenate([[0.0], best_so_far(one)])[places] for one, places in zip(sweeps, at, strict=True)]
        for one in sweeps:
            axes.step(
                seconds_so_far(one), best_so_far(one), where="post", color=COLOURS[arm], linewidth=0.7, alpha=0.35
            )
        axes.plot(grid, np.mean(curves, axis=0), color=COLOURS[arm], linewidth=1.8)
    axes.set_title("the same, by CPU seconds of training", loc="left", fontsize=9)
