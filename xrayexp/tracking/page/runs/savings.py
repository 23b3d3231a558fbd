"""What the constraint and the pruner saved."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from xrayexp.tracking.savings import Savings
from xrayexp.tracking.sheet import Sheet
from xrayexp.webpage import section


def section_of(sheet: Sheet) -> str:
    """A few sentences, of a sweep."""
    if sheet.savings is None:
        return ""
    lines = "".join(f"<p>{escape(one)}</p>" for one in sentences(sheet.savings))
    words = '<p class="quiet">Seconds are estimates: what was not computed by the median of the complete trials.</p>'
    return section("What the constraint and the pruner saved", lines + words, "runs-savings")


def sentences(found: Savings) -> Iterator[str]:
    """The savings in words."""
    if found.infeasible:
        cost = _seconds(found.infeasible_seconds, found.infeasible_cpu_seconds)
        yield f"The constraint ended {_trials(found.infeasible)} without a launch: {cost}."
    else:
        yield "The constraint ended no trial."
    if found.pruned:
        whole = found.steps_taken + found.steps_left
        share = f" of {whole:,}" if whole else ""
        cost = _seconds(found.pruned_seconds, found.pruned_cpu_seconds)
        yield (
            f"The pruner ended {_trials(found.pruned)} after {found.steps_taken:,}{share} steps, "
            f"{found.steps_left:,} steps less: {cost}."
        )
    else:
        yield "The pruner ended no trial."
    if found.out_of_memory:
        yield f"{_trials(found.out_of_memory).capitalize()} ran out of memory: the constraint did not foresee that."
    saved = (found.infeasible_seconds or 0.0) + (found.pruned_seconds or 0.0)
    if saved and found.spent_seconds:
        all_of_it = saved + found.spent_seconds
        yield f"In all {saved / all_of_it:.0%} of the {all_of_it:,.0f} s that training all of it would have taken."


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count:,} trials"


def _seconds(wall: float | None, cpu: float | None) -> str:
    if wall is None:
        return "how long these would have taken no complete trial tells"
    more = "" if cpu is None else f" ({cpu:,.0f} CPU s)"
    return f"about {wall:,.0f} s{more} not spent"
