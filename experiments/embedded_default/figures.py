"""The two pictures of the study: all scores with their intervals, and one phantom with its reports."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from hydra.utils import instantiate
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from experiments.embedded_default.claims import BOUNDS, title, title_of
from experiments.embedded_default.runs import composed
from experiments.results import Rows, Values
from xrayexp.data.report import Finding, write_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xrayexp.data.phantom import Phantom

INK, MUTED, FAINT, WRONG = "#1f2328", "#656d76", "#d0d7de", "#cf222e"
ADAPTER_COLOURS = {"lora": "#0969da", "dora": "#8250df"}
FINDING_COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700")
STYLE: dict[Any, object] = {"font.size": 9, "text.color": INK, "xtick.color": MUTED, "ytick.color": INK}
DPI = 160
PALETTE = 256  # colours of a PNG of one byte a pixel: half the size

# The phantom's picture, in inches.
WIDTH, HEIGHT, MARGIN = 9.0, 3.8, 0.12
COLUMNS, COLUMN_WIDTH = (3.42, 6.3), 2.6
LINE = 0.17  # from one line of text to the next
WRAP = 35  # characters of a line of a report


def draw_scores(rows: Rows, file: Path) -> None:
    """A point with its 95 % interval for every row, one panel for each claimed metric."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.3 * len(rows) + 0.8), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(BOUNDS), sharey=True)
        for axes, (metric, bound) in zip(panels, BOUNDS.items(), strict=True):
            for place, (key, values) in enumerate(rows.items()):
                colour = ADAPTER_COLOURS.get(key.partition("-")[0], MUTED)
                _point(axes, values["metrics"][metric], place, colour)
            axes.axvline(bound, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.set_title(f"{title_of(metric)}  (dashed: {bound:g})", loc="left", fontsize=9)
            axes.set_xlim(-0.04, 1.04)
            axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
            axes.grid(axis="x", color=FAINT, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
        panels[0].set_yticks(range(len(rows)), [title(key) for key in rows])
        panels[0].invert_yaxis()
        save(figure, file)


def _point(axes: Axes, estimate: Values, place: int, colour: str) -> None:
    low, high = estimate["low"], estimate["high"]
    if low is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=2.2, alpha=0.45, solid_capstyle="round")
    axes.plot(estimate["value"], place, "o", color=colour, markersize=5)


def draw_phantom(rows: Rows, file: Path) -> None:
    """One test phantom with what is true, what the base says about it and what the fine-tuned model says."""
    before, after = rows["before"]["shown"], rows["lora-0"]["shown"]
    truth = [Finding(finding["name"], tuple(finding["locations"])) for finding in after["truth"]]
    box_colours = {f.name: FINDING_COLOURS[n % len(FINDING_COLOURS)] for n, f in enumerate(truth)}
    true_lines = [line for line in write_report(truth).splitlines() if line.startswith("- ")]
    line_colours = dict(zip(true_lines, box_colours.values(), strict=True))
    phantom: Phantom = instantiate(composed("train").data.source).phantom(after["image_id"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
        page = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))  # in inches, from the top
        page.set_axis_off()
        side = HEIGHT - 3 * MARGIN - LINE * (len(true_lines) + 1)
        _image(figure, phantom, box_colours, side)
        _text(page, MARGIN, side + 2 * MARGIN + 0.6 * LINE, "\n".join(["TRUTH:", *true_lines]), line_colours, wrap=60)
        for x, heading, shown in zip(COLUMNS, ("before", "after"), (before, after), strict=True):
            page.text(x, 0.32, f"{heading} fine-tuning", fontsize=11, fontweight="bold")
            page.plot([x, x + COLUMN_WIDTH], [0.42, 0.42], color=FAINT, linewidth=1)
            _text(page, x, 0.68, shown["text"], line_colours)
        save(figure, file)


def _image(figure: Figure, phantom: Phantom, colours: Mapping[str, str], side: float) -> None:
    """The phantom as a square of `side` inches in the upper left corner, with the box of every finding."""
    axes = figure.add_axes(
        (MARGIN / WIDTH, (HEIGHT - MARGIN - side) / HEIGHT, side / WIDTH, side / HEIGHT), frameon=False
    )
    axes.imshow(phantom.image, cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
    for box in phantom.boxes:
        corner, size = (box.x0 - 0.5, box.y0 - 0.5), (box.x1 - box.x0, box.y1 - box.y0)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colours[box.finding], linewidth=1.6))
    axes.set_axis_off()


def _text(page: Axes, x: float, y: float, text: str, colours: Mapping[str, str], wrap: int = WRAP) -> None:
    """Lines from (x, y) downwards; a finding that is true, with its places, has the colour of its box."""
    for line in text.splitlines():
        style: dict[str, Any] = {"color": colours.get(line, WRONG if line.startswith("- ") else INK)}
        if line.isupper():
            style["fontweight"] = "bold"
        for part in textwrap.wrap(line, wrap, subsequent_indent="  " * line.startswith("-")) or [""]:
            page.text(x, y, part, family="DejaVu Sans Mono", fontsize=8.6, va="center", **style)
            y += LINE


def save(figure: Figure, file: Path) -> None:
    """As a PNG of few colours."""
    drawn = io.BytesIO()
    figure.savefig(drawn, facecolor="white")
    with Image.open(drawn) as image:
        few = image.convert("RGB").quantize(PALETTE, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(file, optimize=True)
