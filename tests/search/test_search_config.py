"""The section `search`: each mistake has a sentence of its own."""

from __future__ import annotations

from typing import Any

import pytest

from xrayexp.search.config import SearchSection

TWO = [{"metric": "val/micro_f1", "direction": "maximize"}, {"metric": "peak_memory_gib", "direction": "minimize"}]
GOOD: dict[str, Any] = {
    "name": None, "n_trials": 12, "objectives": TWO[:1], "space": {"adapter.r": "8, 16"}, "constraints": {},
    "check": None, "every_trial": {}, "max_failures": 3, "storage": None, "seed": 0,
    "sampler": {"_target_": "optuna.samplers.RandomSampler"}, "pruner": {"_target_": "optuna.pruners.NopPruner"},
}  # fmt: skip


def test_a_good_section_has_no_problem() -> None:
    assert SearchSection(**GOOD).problems() == []
    assert SearchSection(**GOOD | {"objectives": TWO}).problems() == []
    assert SearchSection(**GOOD | {"objectives": TWO}).directions == {
        "val/micro_f1": "maximize", "peak_memory_gib": "minimize",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"n_trials": 0}, "search.n_trials must be at least 1, not 0"),
        ({"max_failures": 0}, "search.max_failures must be at least 1, not 0"),
        ({"seed": -1}, "search.seed must be a whole number from 0 to 4294967295, not -1"),
        ({"space": {}}, "search.space is empty"),
        ({"sampler": {"seed": 1}}, "search.sampler needs a _target_"),
        ({"pruner": {}}, "search.pruner needs a _target_"),
        ({"objectives": []}, "search.objectives is empty"),
        ({"objectives": ["score"]}, "search.objectives: each has a metric and a direction, not score"),
        ({"objectives": [{"metric": "a", "direction": "up"}]}, "the direction is maximize or minimize, not up"),
        ({"objectives": [TWO[0], TWO[0]]}, "search.objectives: val/micro_f1 stands there twice"),
        ({"storage": "study.db"}, "search.storage: 'study.db' is no URL of a database"),
        (
            {"objectives": TWO, "pruner": {"_target_": "optuna.pruners.MedianPruner"}},
            "a trial cannot be pruned for what one of them says about half of a training; use search/pruner=none",
        ),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], problem: str) -> None:
    [found] = SearchSection(**GOOD | changes).problems()
    assert problem in found
