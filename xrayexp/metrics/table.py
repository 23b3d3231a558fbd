"""The metrics as a table for the terminal."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xrayexp.metrics.definitions import HEADLINE
from xrayexp.metrics.structured import Estimate, FindingScore, StructuredMetrics

NEVER_TRUE_SHOWN = 10  # a model that babbles names thousands; metrics.json has them all


def render(metrics: StructuredMetrics) -> RenderableType:
    """The headline with its intervals, then every finding by falling support."""
    return Group(_headline(metrics), Text(), _findings(metrics))


def _headline(metrics: StructuredMetrics) -> Table:
    table = _table(f"{metrics.images} images of {metrics.patients} patients")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column(_interval_title(metrics), justify="right", no_wrap=True)
    table.add_column("beware", style="dim")
    for definition in HEADLINE:
        estimate = metrics.estimates[definition.name]
        table.add_row(
            definition.title,
            _number(estimate.value),
            _interval(estimate),
            estimate.reason or definition.caution,
        )
    return table


def _findings(metrics: StructuredMetrics) -> Table:
    table = _table("Per finding")
    table.add_column("finding")
    for title in ("true", "named", "precision", "recall", "F1"):
        table.add_column(title, justify="right")
    table.add_column(_interval_title(metrics), justify="right", no_wrap=True)
    never_true = [finding for finding in metrics.findings if finding.support == 0]
    for finding in metrics.findings[: len(metrics.findings) - len(never_true)]:
        _add_finding(table, finding)
    for finding in never_true[:NEVER_TRUE_SHOWN]:
        _add_finding(table, finding)
    rest = never_true[NEVER_TRUE_SHOWN:]
    if rest:
        table.add_row(f"{len(rest)} more names, never true", "0", str(sum(f.predicted for f in rest)), style="dim")
    return table


def _add_finding(table: Table, finding: FindingScore) -> None:
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


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")


def _interval_title(metrics: StructuredMetrics) -> str:
    return f"{100 * metrics.confidence:g}% interval"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(estimate: Estimate) -> str:
    return "-" if math.isnan(estimate.low) else f"{estimate.low:.3f} to {estimate.high:.3f}"
