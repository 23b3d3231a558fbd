"""The section `search` of the config: what is searched, for what, how often, and what must not be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xrayexp.search.results import Direction
from xrayexp.search.storage import check_url

NOP = "optuna.pruners.NopPruner"


@dataclass(frozen=True)
class SearchSection:
    """How a sweep is made.

    Attributes:
        name: of the study, as the storage knows it; None for that of the sweep's folder.
        n_trials: that end complete or pruned, infeasible ones among them; those of earlier processes count.
        objectives: each {metric, direction}: a number that a job returns, and maximize or minimize.
        space: see `xrayexp.search.space`.
        constraints: by name a `_target_` that takes a trial's composed config and returns a number: above 0 the trial
            is not launched.
        check: a `_target_` that takes a composed config and raises when it cannot be used; None for none.
        every_trial: values by config key that trials have and the run of the best one has not.
        max_failures: failed trials in a row after which a process stops.
        storage: URL of a database; None for a file in the sweep's folder.
        seed: of the sampler.
        sampler: `_target_` of an Optuna sampler, which is given a seed.
        pruner: `_target_` of an Optuna pruner.
    """

    name: str | None
    n_trials: int
    objectives: list[Any]
    space: dict[str, Any]
    constraints: dict[str, Any]
    check: Any
    every_trial: dict[str, Any]
    max_failures: int
    storage: str | None
    seed: int
    sampler: dict[str, Any]
    pruner: dict[str, Any]

    def problems(self) -> list[str]:
        """What is out of range."""
        found = [
            f"search.{key} must be at least 1, not {value}"
            for key, value in (("n_trials", self.n_trials), ("max_failures", self.max_failures))
            if value < 1
        ]
        if not 0 <= self.seed < 2**32:
            found.append(f"search.seed must be a whole number from 0 to {2**32 - 1}, not {self.seed}")
        if not self.space:
            found.append("search.space is empty: say what is searched, such as adapter.r: choice(8, 16)")
        found += [
            f"search.{name} needs a _target_" for name in ("sampler", "pruner") if "_target_" not in getattr(self, name)
        ]
        return found + self._of_objectives() + check_url(self.storage)

    def _of_objectives(self) -> list[str]:
        if not self.objectives:
            return ["search.objectives is empty: give it {metric: val/micro_f1, direction: maximize}"]
        found = []
        for one in self.objectives:
            if not isinstance(one, Mapping) or set(one) != {"metric", "direction"}:
                found.append(f"search.objectives: each has a metric and a direction, not {one}")
            elif one["direction"] not in ("maximize", "minimize"):
                found.append(f"search.objectives: the direction is maximize or minimize, not {one['direction']}")
        metrics = [one["metric"] for one in self.objectives if isinstance(one, Mapping) and "metric" in one]
        found += [
            f"search.objectives: {metric} stands there twice"
            for metric in dict.fromkeys(metrics)
            if metrics.count(metric) > 1
        ]
        if len(self.objectives) > 1 and self.pruner.get("_target_") != NOP:
            found.append(
                "search.objectives has several: a trial cannot be pruned for what one of them says about half of a "
                "training; use search/pruner=none"
            )
        return found

    @property
    def directions(self) -> dict[str, Direction]:
        """The objectives by metric."""
        return {one["metric"]: one["direction"] for one in self.objectives}
