"""The answer in a sentence, and how far it can be trusted."""

from __future__ import annotations

from html import escape

from xrayexp.tracking.choices import in_words
from xrayexp.tracking.public import public_text
from xrayexp.tracking.sheet import Sheet
from xrayexp.webpage import section

MOST_CHOICES = 8


def section_of(sheet: Sheet) -> str:
    """The first box about the runs."""
    about = "".join(f'<p class="quiet">{escape(public_text(one))}</p>' for one in sheet.about)
    warnings = [*sheet.warnings, *optimism(sheet)]
    warned = "".join(f'<p class="missed"><strong>!</strong> {escape(public_text(one))}</p>' for one in warnings)
    title = "In short" if sheet.kind == "trial" else "In validation"
    return section(title, f"<p><strong>{escape(answer(sheet))}</strong></p>{about}{warned}", "runs-intro")


def answer(sheet: Sheet) -> str:
    """The best row, as plain text."""
    ranked = sheet.ranked()
    if not ranked:
        return f"No {sheet.kind} has ended well with a {sheet.metric} yet."
    best = ranked[0]
    keys = [axis.key for axis in sheet.axes if axis.key in best.choices]
    choices = ", ".join(f"{key}={in_words(best.choices[key])}" for key in keys[:MOST_CHOICES])
    choices += ", ..." if len(keys) > MOST_CHOICES else ""
    return (
        f"Best {sheet.metric}: {sheet.value(best):.3f}, {sheet.kind} {best.name}{f' ({choices})' if choices else ''}."
    )


def optimism(sheet: Sheet) -> list[str]:
    """Why the best value is too good to be reported."""
    count = len(sheet.ranked())
    if count < 2:
        return []
    return [
        f"The best of {count} {sheet.kind}s is chosen by the validation images that score it, which makes its score "
        "optimistic: report the one on the test split, and look at that once."
    ]
