"""How the numbers were made, and what they do not say."""

from __future__ import annotations

from html import escape

from xrayexp.metrics.bootstrap import MIN_DEFINED
from xrayexp.tracking.page.view import View
from xrayexp.webpage import section


def section_of(view: View) -> str:
    """Enough to repeat it, and to write it into a paper."""
    numbers = view.comparison
    exact = all(run.exact for run in numbers.runs.values())
    swaps = "all swaps" if exact else f"{numbers.draws:,} random swaps"
    sentences = [
        f"Intervals: {100 * numbers.confidence:g}%, BCa, {numbers.resamples:,} resamples of patients, the same for "
        "both runs; percentiles where BCa does not exist, none where a value is undefined in more than "
        f"{1 - MIN_DEFINED:.0%} of the resamples.",
        f"Tests: paired randomisation, two-sided, {swaps} of the runs' reports by patient. They ask whether the two "
        "runs could be exchanged.",
        f"Holm's correction covers the {numbers.tests} tests of values of all runs as one family, and for each run the "
        "findings as another. Whoever means to look at few values should name them beforehand: --metric.",
        "A run is one training: another seed may differ by more than these intervals. Several seeds of each setting "
        "answer whether the setting is better; this page answers whether these two models differ.",
        f"Seed of resamples and swaps: {numbers.seed}. The same predictions give the same numbers.",
    ]
    left_out = "".join(f'<p class="missed">{escape(str(one))}</p>' for one in numbers.left_out)
    return section("How this was computed", "".join(f"<p>{escape(line)}</p>" for line in sentences) + left_out)
