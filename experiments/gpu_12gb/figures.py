"""The picture: predicted and measured peaks of every setting, and the card's limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.gpu_12gb.rows import allocated, is_of_a_gpu
from experiments.gpu_12gb.settings import BUDGET_GIB
from experiments.results import Rows

INK, MUTED, FAINT = "#1f2328", "#656d76", "#d0d7de"
PREDICTED, MEASURED = "#8c959f", "#0969da"
STYLE: dict[Any, object] = {"font.size": 9, "text.color": INK, "xtick.color": MUTED, "ytick.color": INK}


def draw_peaks(rows: Rows, out: Path) -> None:
    """peaks.png: two bars for every setting; where nothing was measured, how it ended."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.42 * len(rows) + 1.2), dpi=140, layout="constrained")
        axes = figure.subplots()
        for place, values in enumerate(rows.values()):
            if values["predicted"]:
                axes.barh(place - 0.19, values["predicted"]["allocated"], height=0.34, color=PREDICTED)
            if values.get("measured"):
                axes.barh(place + 0.19, allocated(values), height=0.34, color=MEASURED)
            else:
                axes.text(0, place + 0.19, f" {values['outcome']}", va="center", fontsize=8, color=MUTED)
        if is_of_a_gpu(rows):
            axes.axvline(BUDGET_GIB, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_xlabel("peak of tensors in a training step, GiB")
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.invert_yaxis()
        patches = [Patch(color=PREDICTED), Patch(color=MEASURED)]
        figure.legend(patches, ["predicted", "measured"], loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(out / "peaks.png")
