"""The picture of the study: time and memory of every method as a multiple of LoRA's, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments.adapter_cost.layers import DELORA, DORA, LORA, PEFT_DORA
from experiments.results import Rows

INK, MUTED, FAINT = "#1f2328", "#656d76", "#d0d7de"
COLOURS = {PEFT_DORA: "#cf222e", DORA: "#8250df", DELORA: "#1a7f37"}
STYLE: dict[Any, object] = {"font.size": 9, "text.color": INK, "xtick.color": MUTED, "ytick.color": INK}
PANELS = (("seconds", "time of a training step"), ("mib", "peak transient memory"))


def draw_costs(rows: Rows, out: Path) -> None:
    """costs.png: a point for each layer, number of rows and rank in bfloat16."""
    some = {key: values for key, values in rows.items() if values["type"] == "bfloat16"}
    kinds = list(dict.fromkeys((values["in"], values["out"], values["rows"]) for values in some.values()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.3 * len(kinds) + 1.1), dpi=160, layout="constrained")
        for axes, (what, title) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
            for shift, (method, colour) in enumerate(COLOURS.items()):
                values = list(some.values())
                across = [each[what][method] / each[what][LORA] for each in values]
                down = [kinds.index((each["in"], each["out"], each["rows"])) + 0.2 * (shift - 1) for each in values]
                axes.scatter(across, down, s=12, color=colour, label=method, linewidths=0)
            axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.set_xscale("log")
            axes.set_title(f"{title}, LoRA = 1", loc="left", fontsize=9)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if value in {0.5, 2, 3, 5, 20} else "")
            axes.set_yticks(range(len(kinds)), [f"{i} → {o}, {n} rows" for i, o, n in kinds])
            axes.grid(axis="x", color=FAINT, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0, which="both")
        axes.invert_yaxis()
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), frameon=False)
        figure.savefig(out / "costs.png")
