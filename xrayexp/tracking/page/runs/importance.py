"""Which choices set the best runs apart."""

from __future__ import annotations

from html import escape

from xrayexp.tracking.page.tables import Cell, Head, grid
from xrayexp.tracking.sheet import Sheet
from xrayexp.tracking.sheet_of_sweep import readable
from xrayexp.webpage import Raw, section

LEAST_ROWS = 3


def section_of(sheet: Sheet) -> str:
    """A bar for each choice, or a sentence why there are none."""
    if not sheet.axes or len(sheet.rows) < LEAST_ROWS:
        return ""
    found = sheet.importance
    if found.reason:
        return section("Importance", f"<p>{escape(found.reason)}</p>", "runs-importance")
    words = (
        f'<p class="quiet">What sets the best {found.best} of {found.trials} {sheet.kind}s apart from all of them, '
        "choice by choice (PED-ANOVA); of 1 in all. A choice that decides only together with another is not seen, and "
        "with few runs the order of close ones is chance.</p>"
    )
    left_out = ", ".join(readable(name) for name in found.left_out)
    more = f'<p class="quiet">Too few {sheet.kind}s with or without: {escape(left_out)}.</p>' if left_out else ""
    heads = [Head("choice", "text"), Head("share", "number"), Head("")]
    most = max(found.shares.values())
    rows = [
        [
            Cell(readable(name), readable(name), "name"),
            Cell(f"{share:.2f}", share, "n"),
            Cell(Raw(f'<div class="share" style="width:{100 * share / most:.1f}%"></div>'), kind="bars"),
        ]
        for name, share in found.shares.items()
    ]
    return section("Importance", words + grid("importance", heads, rows) + more, "runs-importance")
