"""Figures as SVG that a browser draws without asking anyone for anything, in the colours of its light or dark page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY, RED = "#3b7dad", "#8a949e", "#b5483a"
AXIS, LABEL = "#c3cad1", "#3c4650"
VARIABLES = {BLUE: "--blue", GREY: "--grey", RED: "--red", AXIS: "--axis", LABEL: "--label"}  # of webpage.STYLE
STYLE: Any = {
    "svg.fonttype": "none",  # words stay words: small, sharp, searchable
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": LABEL,
    "axes.edgecolor": AXIS,
    "axes.labelcolor": LABEL,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": LABEL,
    "ytick.color": LABEL,
}


@contextmanager
def drawn(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches in the page's style; no window, no global state."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def svg(
    figure: Figure,
    name: str,
    title: str = "",
    variables: Mapping[str, str] | None = None,
    marks: Mapping[str, str] | None = None,
) -> str:
    """The figure's <svg> element. HTML needs none of the addresses by which XML names its namespaces.

    Args:
        figure: what to show.
        name: unique in the page.
        title: what it shows, for those who do not see it.
        variables: colour of the figure to CSS variable of the page, beside `VARIABLES`.
        marks: by gid of artists, which scripts find as `data-mark`: what is said when the mouse rests on them.
    """
    import matplotlib as mpl

    text = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):  # ids that differ from figure to figure
        figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    drawing = text.getvalue()
    drawing = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", drawing[drawing.index("<svg") :])
    for mark, words in (marks or {}).items():
        marked = f'<g data-mark="{escape(mark)}"><title>{escape(words)}</title>'
        drawing = drawing.replace(f'<g id="{escape(mark)}">', marked)
    used = set(re.findall(r"#([\w-]+)", drawing))
    # Matplotlib calls the first axes of every figure axes_1; a page may have a name once.
    drawing = re.sub(r'\s+id="([^"]*)"', lambda found: found[0] if found[1] in used else "", drawing)
    for colour, variable in {**VARIABLES, **(variables or {})}.items():
        drawing = drawing.replace(colour, f"var({variable}, {colour})")
    return drawing.replace("<svg", f'<svg role="img" aria-label="{escape(title or name)}"', 1)
