"""The runs, and the answer in a sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from xrayexp.metrics.changes import Turn
from xrayexp.tracking.page.inline import sign
from xrayexp.tracking.page.view import ShownRun, View
from xrayexp.webpage import Raw, section, table


def section_of(view: View) -> str:
    """The first boxes."""
    numbers = view.comparison
    dropped = {name: count for name, count in numbers.dropped.items() if count}
    left = ", ".join(f"{count:,} of {name}" for name, count in dropped.items())
    notes = [f"Left out, because another run was not scored on them: {left} images."] if dropped else []
    warned = "".join(f'<p class="missed"><strong>!</strong> {escape(warning)}</p>' for warning in view.warnings)
    quiet = "".join(f'<p class="quiet">{escape(note)}</p>' for note in notes)
    answers = "".join(_answer(view, index, run) for index, run in enumerate(view.others, start=1))
    about = (
        f'<p class="quiet">The same {numbers.images:,} images of {numbers.patients:,} patients, {escape(view.split)} '
        "split. Everything is said of a run beside the reference, the hollow dot.</p>"
    )
    return (
        f'<section class="verdict{" warned" if view.warnings else ""}">{about}{answers}{warned}{quiet}</section>'
        + _runs(view)
    )


def _answer(view: View, index: int, run: ShownRun) -> str:
    found = view.comparison.runs[run.name]
    verdicts = Counter(view.verdict(found.values[key], one) for key, one in view.comparison.definitions.items())
    tests = verdicts["better"] + verdicts["worse"] + verdicts["unclear"]
    gained, lost = (len(found.changes.of(turn)) for turn in (Turn.GAINED, Turn.LOST))
    counts = (
        f" <span class=better>\u25b2 better in {verdicts['better']}</span>, <span class=worse>\u25bc worse in "
        f"{verdicts['worse']}</span> of {tests} values after correction."
        if tests
        else ""
    )
    return f"<p>{sign(run.name, index)}:{counts} {gained:,} reports turned right, {lost:,} turned wrong.</p>"


def _runs(view: View) -> str:
    keys = [key for key in _FACTS if any(run.summary.get(key) is not None for run in view.runs)]
    if not keys:
        return ""
    heads = ("run", "checkpoint", *(f"#{_FACTS[key]}" for key in keys))
    rows = [
        (Raw(sign(run.name, i)), run.checkpoint, *(_fact(run.summary, key) for key in keys))
        for i, run in enumerate(view.runs)
    ]
    return section("Runs", f'<div class="scroll">{table(heads, rows)}</div>')


_FACTS = {
    "best_score": "best in validation",
    "best_step": "at step",
    "steps": "steps",
    "fit_seconds": "seconds",
    "peak_memory_gib": "GiB at most",
    "trainable_parameters": "trained parameters",
}


def _fact(summary: Mapping[str, Any], key: str) -> str:
    value = summary.get(key)
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if key == "fit_seconds" else f"{value:.3f}"
