"""conf/metrics is the registry: names are unique, options add up, what is wrong is said before anything slow."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from xrayexp.errors import ConfigError
from xrayexp.metrics.registry import build, metrics_of

STRUCTURED = "xrayexp.metrics.structured"


def test_names_are_unique_and_every_metric_can_say_whether_it_is_available() -> None:
    metrics = metrics_of("all")
    assert len(metrics) >= 13
    names = Counter(metric.name for metric in metrics)
    values = Counter(definition.name for metric in metrics for definition in metric.definitions)
    titles = Counter(definition.title for metric in metrics for definition in metric.definitions)
    assert set((names + Counter()).values()) == set(values.values()) == set(titles.values()) == {1}
    for metric in metrics:
        check = metric.unavailable()
        assert check is None or (check.status == "missing" and check.fix)


def test_nothing_is_scored_without_metrics_and_the_structured_ones_need_nothing() -> None:
    assert metrics_of("none") == ()
    structured = metrics_of("structured")
    assert {type(metric) for metric in structured} <= {type(metric) for metric in metrics_of("all")}
    assert all(metric.wraps is None and not metric.needs and metric.unavailable() is None for metric in structured)


def test_null_switches_a_metric_off_and_arguments_arrive() -> None:
    [bands] = build({"a": None, "b": {"_target_": f"{STRUCTURED}.bands.Bands", "head": 0.2}})
    assert "at least 20 %" in bands.definitions[0].definition


def test_two_metrics_with_one_name_are_refused() -> None:
    twice = {key: {"_target_": f"{STRUCTURED}.micro.Micro"} for key in ("micro", "again")}
    with pytest.raises(ConfigError, match="2 metrics give a value 'micro_f1'"):
        build(twice)


@pytest.mark.parametrize(
    "target, message",
    [
        ({"_target_": f"{STRUCTURED}.bands.Bands", "head": 2}, r"metrics\.scores\.mine: bands: 0 < tail <= head < 1"),
        ({"_target_": f"{STRUCTURED}.nothing.Nothing"}, r"metrics\.scores\.mine: "),
        ({"_target_": f"{STRUCTURED}.bands.Bands", "heat": 2}, r"metrics\.scores\.mine: "),
        ({"_target_": "builtins.dict"}, r"metrics\.scores\.mine: is no metric, but dict"),
        ({"head": 2}, r"metrics\.scores\.mine: is no metric, but dict"),
        ({"_target_": f"{STRUCTURED}.relevance.Relevance", "file": "none.yaml"}, r"mine: none\.yaml: cannot be read"),
    ],
)
def test_a_wrong_metric_is_named(target: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"mine": target})
