"""The figures of the page, as SVG that a browser draws without asking anyone for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xrayexp.data.appearance import LEAST_UPRIGHT
from xrayexp.drawing import BLUE, GREY, RED, drawn, svg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

MOST_FINDINGS = 30
THOUSANDS = "{x:,.0f}"


def finding_frequencies(findings: pd.Series[int]) -> str:
    """Images per finding, on a logarithmic axis: the tail is long."""
    shown = findings.head(MOST_FINDINGS)[::-1]
    with drawn(9.6, 0.6 + 0.21 * len(shown)) as figure:
        axes = figure.subplots()
        _bars(axes, [str(name) for name in shown.index], shown.to_list())
        axes.set_xscale("log")
        axes.set_xlim(0.7, 3 * max(shown))
        axes.set_xlabel("images (logarithmic)")
        return svg(figure, "findings")


def findings_per_image(per_image: pd.Series[int]) -> str:
    """Images by number of findings."""
    with drawn(4.6, 3.0) as figure:
        axes = figure.subplots()
        axes.bar(per_image.index, per_image, color=BLUE, width=0.8)
        axes.set_xlabel("findings in an image; 0 is normal")
        axes.set_ylabel("images")
        axes.yaxis.set_major_formatter(THOUSANDS)
        axes.xaxis.set_major_locator(_whole_numbers())
        return svg(figure, "per-image")


def groups(counts: pd.Series[int], name: str) -> str:
    """Images by the value of a column: few values."""
    shown = counts[::-1]
    with drawn(4.6, 0.7 + 0.33 * len(shown)) as figure:
        axes = figure.subplots()
        _bars(axes, [str(value) for value in shown.index], shown.to_list())
        axes.set_xlim(0, 1.3 * max(shown))
        axes.set_xlabel("images")
        axes.xaxis.set_major_formatter(THOUSANDS)
        return svg(figure, name)


def co_occurrence(together: pd.DataFrame) -> str:
    """How often findings come together: a heat map with the row's findings on the left."""
    names = [str(name) for name in together.index]
    side = 2.2 + 0.27 * len(names)
    with drawn(side + 1.2, side) as figure:
        axes = figure.subplots()
        shares = together.to_numpy(copy=True)
        np.fill_diagonal(shares, np.nan)
        most = max(0.01, float(np.nanmax(shares, initial=0)))
        mesh = axes.pcolormesh(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=most, edgecolor="white", lw=0.5)
        places = np.arange(len(names)) + 0.5
        axes.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, names)
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.set_facecolor("#eceff2")
        bar = figure.colorbar(mesh, ax=axes, shrink=0.6, aspect=30, pad=0.02)
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        bar.outline.set_visible(False)
        return svg(figure, "together")


def image_values(records: pd.DataFrame) -> str:
    """Sizes, grey ranges and likeness to a chest of readable images.

    Args:
        records: of the image index.
    """
    readable = records[records["reason"] == ""]
    with drawn(10.4, 2.9) as figure:
        sizes, ranges, likeness = figure.subplots(1, 3)
        longer = readable[["height", "width"]].max(axis="columns")
        sizes.hist(longer, bins=30, color=BLUE)
        sizes.set(title="Longer side", xlabel="pixels", ylabel="images")
        for axes in (sizes, ranges, likeness):
            axes.yaxis.set_major_formatter(THOUSANDS)
            axes.yaxis.set_major_locator(_whole_numbers())
        bits = np.ceil(np.log2(readable["high"].clip(lower=1) + 1)).astype(int)
        counts = bits.value_counts().sort_index()
        ranges.bar(counts.index, counts, color=BLUE, width=0.7)
        ranges.xaxis.set_major_locator(_whole_numbers())
        ranges.set(title="Bits that the largest grey value takes", xlabel="bits")
        likeness.hist(readable["upright"], bins=np.linspace(-1, 1, 41), color=BLUE)
        likeness.axvline(LEAST_UPRIGHT, color=RED, lw=1)
        likeness.set(title="Likeness to an upright chest", xlabel="rank correlation; red: the least, if not turned")
        return svg(figure, "images")


def _whole_numbers() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator("auto", integer=True)


def _bars(axes: Axes, names: list[str], counts: list[int]) -> None:
    bars = axes.barh(names, counts, color=BLUE, height=0.72)
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=3, fontsize=8.5, color=GREY)
    axes.tick_params(axis="y", length=0)
