"""The sections about runs, in order."""

from __future__ import annotations

from xrayexp.tracking.page.runs import curves, history, importance, intro, parallel, savings, slices, table, tradeoff
from xrayexp.tracking.sheet import Sheet

SECTIONS = (intro, table, parallel, importance, slices, tradeoff, history, savings)


def sections_of(sheet: Sheet, with_curves: bool) -> str:
    """All of them as HTML.

    Args:
        sheet: what they show.
        with_curves: whether the learning curves are among them; a page may show them elsewhere.
    """
    return "".join(one.section_of(sheet) for one in (*SECTIONS, *([curves] if with_curves else [])))
