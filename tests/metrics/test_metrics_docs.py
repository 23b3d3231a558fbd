from __future__ import annotations

import re
from pathlib import Path

import pytest

from xrayexp.metrics.base import Definition, Invariant
from xrayexp.metrics.registry import metrics_of

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
METRICS = metrics_of("all")
DEFINITIONS = [definition for metric in METRICS for definition in metric.definitions]


def sections() -> dict[str, str]:
    """The text under the heading of a metric, on one line; precision, recall and F1 of one kind share a heading."""
    found: dict[str, str] = {}
    for heading, text in re.findall(
        r"^### (`[^\n]*)\n(.*?)(?=^##|\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    ):
        found |= {name: " ".join(text.split()) for name in re.findall(r"`(\w+)`", heading)}
    return found


@pytest.mark.parametrize("metric", DEFINITIONS, ids=lambda metric: metric.name)
def test_the_page_says_of_each_metric_what_metrics_json_says(metric: Definition) -> None:
    text = sections()[metric.name]
    assert metric.definition in text
    assert metric.weakness.removesuffix(" Naming everything scores 1.") in text
    assert f"Range: {metric.range}, {metric.direction}" in text
    assert f"averages over {metric.averages_over}" in text
    if metric.direction == "higher" and Invariant.LISTING_DOES_NOT_WIN not in metric.invariants:
        assert re.search("naming everything .*scores 1|names every finding there is scores 1", text, re.IGNORECASE)


def test_the_page_has_no_metric_that_is_gone() -> None:
    assert list(sections()) == [definition.name for definition in DEFINITIONS]


def test_the_page_says_what_each_metric_needs_and_wraps() -> None:
    page = " ".join(PAGE.read_text("utf-8").split())
    # The version that it wraps is that of the machine, and in metrics.json.
    wrapped = [metric.wraps.partition(" ")[0] for metric in METRICS if metric.wraps]
    told = [*wrapped, *(need for metric in METRICS for need in metric.needs)]
    assert [words for words in told if words not in page] == []
