from __future__ import annotations

import re
from pathlib import Path

import pytest

from xrayexp.metrics.definitions import HEADLINE, Definition

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def section(name: str) -> str:
    """The text under the heading of a metric, on one line."""
    match = re.search(rf"^### `{name}`\n(.*?)(?=^##|\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert match, f"{PAGE.name} has no section for {name}"
    return " ".join(match[1].split())


@pytest.mark.parametrize("metric", HEADLINE, ids=lambda metric: metric.name)
def test_the_page_says_of_each_metric_what_metrics_json_says(metric: Definition) -> None:
    text = section(metric.name)
    assert metric.definition in text
    assert metric.weakness in text
    assert f"Range: {metric.range}" in text
    assert f"averages over {metric.averages_over}" in text


def test_the_page_has_no_metric_that_is_gone() -> None:
    documented = re.findall(r"^### `(\w+)`$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert documented == [metric.name for metric in HEADLINE]
