"""The comparison page: its sections in order."""

from __future__ import annotations

from pathlib import Path

from xrayexp import __version__
from xrayexp.replacing import replaced
from xrayexp.tracking.page import (
    calibration,
    cards,
    choices,
    curves,
    examples,
    findings,
    forest,
    inline,
    methods,
    overview,
    tables,
    values,
)
from xrayexp.tracking.page.view import View
from xrayexp.webpage import document

SECTIONS = (overview, choices, values, forest, findings, examples, calibration, curves, methods)
STYLE = (
    inline.STYLE
    + tables.STYLE
    + cards.STYLE
    + """
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(290px, 100%), 1fr)); gap: 10px 20px; }
details > summary { padding: 3px 0; font-weight: 600; }
"""
)
FOOTER = (
    f"xrayexp {__version__}, xrayexp compare. This page shows images and reports of the data set: it falls under the "
    "data set's licence."
)


def comparison_page(view: View) -> str:
    """The page as text."""
    names = [run.name for run in view.runs]
    title = " and ".join(names) if len(names) == 2 else f"{len(names) - 1} runs beside {names[0]}"
    return document(
        f"Comparison: {title}", "".join(one.section_of(view) for one in SECTIONS), FOOTER, STYLE, tables.SCRIPT
    )


def write_comparison_page(view: View, path: Path) -> None:
    """Writes the page; an earlier one is replaced as a whole.

    Raises:
        OSError: it cannot be written.
    """
    with replaced(path) as temporary:
        temporary.write_text(comparison_page(view), encoding="utf-8")
