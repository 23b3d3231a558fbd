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
from xrayexp.tracking.page.runs import style as runs_style
from xrayexp.tracking.page.runs.sections import sections_of
from xrayexp.tracking.page.view import View
from xrayexp.tracking.sheet import Sheet
from xrayexp.webpage import document

# Of the runs whose reports stand beside each other; the sections about any runs are in page/runs.
SECTIONS = (overview, choices, values, forest, findings, examples, calibration, curves, methods)
STYLE = (
    inline.STYLE
    + tables.STYLE
    + cards.STYLE
    + runs_style.STYLE
    + """
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(290px, 100%), 1fr)); gap: 10px 20px; }
details > summary { padding: 3px 0; font-weight: 600; }
"""
)
SCRIPT = tables.SCRIPT + runs_style.SCRIPT
FOOTER = f"xrayexp {__version__}, xrayexp compare."
LICENCE = " This page shows images and reports of the data set: it falls under the data set's licence."


def comparison_page(view: View | None, sheet: Sheet | None = None) -> str:
    """The page as text.

    Args:
        view: runs beside a reference, report by report; None where there are no predictions.
        sheet: the runs by their folders alone; None where these are fewer than two.
    """
    parts = []
    if view is not None:
        parts.append("".join(one.section_of(view) for one in SECTIONS))
    if sheet is not None:
        parts.append(sections_of(sheet, with_curves=not _shows_curves(view, sheet)))
        if sheet.kind == "trial":
            parts.reverse()
    footer = FOOTER + (LICENCE if view is not None else "")
    return document(_title(view, sheet), "".join(parts), footer, STYLE, SCRIPT)


def _title(view: View | None, sheet: Sheet | None) -> str:
    if sheet is not None and (view is None or sheet.kind == "trial"):
        return sheet.title if sheet.kind == "trial" else f"Comparison: {sheet.title}"
    assert view is not None
    names = [run.name for run in view.runs]
    return f"Comparison: {' and '.join(names) if len(names) == 2 else f'{len(names) - 1} runs beside {names[0]}'}"


def _shows_curves(view: View | None, sheet: Sheet) -> bool:
    """Whether the runs beside the reference are all there are; their curves stand there."""
    return view is not None and sheet.kind == "run" and len(view.runs) >= len(sheet.rows)


def write_comparison_page(view: View | None, sheet: Sheet | None, path: Path) -> None:
    """Writes the page; an earlier one is replaced as a whole.

    Raises:
        OSError: it cannot be written.
    """
    with replaced(path) as temporary:
        temporary.write_text(comparison_page(view, sheet), encoding="utf-8")
