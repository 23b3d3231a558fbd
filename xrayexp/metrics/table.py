"""The scores as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xrayexp.metrics.base import Definition
from xrayexp.metrics.scores import ClassScore, Estimate, Scores

NEVER_TRUE_SHOWN = 10  # a model that babbles names thousands; metrics.json has them all
COLUMNS = ("precision", "recall", "F1")


def render(scores: Scores, findings: int | None = None) -> RenderableType:
    """Single values with their intervals, then precision, recall and F1 by row, then every finding by falling support.

    Args:
        findings: how many of the findings that are true at least once are shown; None for all.
    """
    parts: list[RenderableType] = [_values(scores)]
    if any(definition.row for definition in scores.definitions.values()):
        parts += [Text(), _rows(scores)]
    parts += [Text(f"\n{left_out}", style="yellow") for left_out in scores.left_out]
    for metric, classes in scores.classes.items():
        if metric == "findings":
            parts += [Text(), _classes(scores, classes, findings)]
    return Group(*parts)


def _values(scores: Scores) -> Table:
    table = _table(f"{scores.images} images of {scores.patients} patients")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column(_interval_title(scores), justify="right", no_wrap=True)
    table.add_column("beware", style="dim")
    for name, definition in scores.definitions.items():
        if not definition.row:
            estimate = scores.estimates[name]
            table.add_row(
                definition.title,
                _number(estimate.value),
                _interval(estimate),
                estimate.reason or definition.caution,
            )
    return table


def _rows(scores: Scores) -> Table:
    table = _table("Precision, recall and F1")
    table.add_column("average")
    for title in COLUMNS:
        table.add_column(title, justify="right")
    table.add_column(f"F1, {_interval_title(scores)}", justify="right", no_wrap=True)
    table.add_column("beware", style="dim")
    rows: dict[str, dict[str, Definition]] = {}
    for definition in scores.definitions.values():
        if definition.row:
            rows.setdefault(definition.row, {})[definition.column] = definition
    for title, columns in rows.items():
        f1 = columns["F1"]
        estimate = scores.estimates[f1.name]
        values = [_number(scores.estimates[columns[column].name].value) for column in COLUMNS]
        table.add_row(title, *values, _interval(estimate), estimate.reason or f1.caution)
    return table


def _classes(scores: Scores, classes: Sequence[ClassScore], shown: int | None) -> Table:
    table = _table("Per finding")
    table.add_column("finding")
    for title in ("true", "named", *COLUMNS):
        table.add_column(title, justify="right")
    table.add_column(_interval_title(scores), justify="right", no_wrap=True)
    never_true = [finding for finding in classes if finding.support == 0]
    supported = classes[: len(classes) - len(never_true)]
    for finding in supported[:shown]:
        _add_class(table, finding)
    if rest := supported[len(supported[:shown]) :]:
        _add_rest(table, f"{len(rest)} rarer findings", rest)
    shown_never_true = NEVER_TRUE_SHOWN if shown is None else 0
    for finding in never_true[:shown_never_true]:
        _add_class(table, finding)
    if rest := never_true[shown_never_true:]:
        more = "more " if shown_never_true else ""
        _add_rest(table, f"{len(rest)} {more}names, never true", rest)
    return table


def _add_class(table: Table, finding: ClassScore) -> None:
    table.add_row(
        Text(finding.name),  # a Text, because a predicted name may contain what rich takes for markup
        str(finding.support),
        str(finding.predicted),
        _number(finding.precision),
        _number(finding.recall),
        _number(finding.f1.value),
        _interval(finding.f1),
        style="" if finding.support else "dim",
    )


def _add_rest(table: Table, title: str, rest: Sequence[ClassScore]) -> None:
    counts = [str(sum(finding.support for finding in rest)), str(sum(finding.predicted for finding in rest))]
    table.add_row(title, *counts, style="dim")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")


def _interval_title(scores: Scores) -> str:
    return f"{100 * scores.confidence:g}% interval"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(estimate: Estimate) -> str:
    return "-" if math.isnan(estimate.low) else f"{estimate.low:.3f} to {estimate.high:.3f}"
