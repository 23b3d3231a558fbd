"""The metrics that can be asked for: conf/metrics/ lists them, a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import instantiate

from xrayexp.config import training_config
from xrayexp.errors import ConfigError, UserError
from xrayexp.metrics.base import Metric


def build(chosen: Mapping[str, Mapping[str, Any] | None]) -> tuple[Metric, ...]:
    """The metrics of `metrics.scores`, in its order; one that is switched off (null) is none.

    Making them loads nothing.

    Raises:
        ConfigError: what is wrong with any of them, one sentence each.
    """
    from hydra.errors import InstantiationException

    made, problems = [], []
    for key, target in chosen.items():
        if target is None:
            continue
        try:
            metric = instantiate(target, _convert_="all")
        except (InstantiationException, TypeError) as error:
            problems += [f"metrics.scores.{key}: {told}" for told in _told(error)]
            continue
        if isinstance(metric, Metric):
            made.append(metric)
        else:
            problems.append(f"metrics.scores.{key}: is no metric, but {type(metric).__name__}")
    times = Counter(definition.name for metric in made for definition in metric.definitions)
    problems += [
        f"metrics.scores: {n} metrics give a value '{name}': leave out all but one"
        for name, n in times.items()
        if n > 1
    ]
    if problems:
        raise ConfigError(problems)
    return tuple(made)


def _told(error: Exception) -> Sequence[str]:
    """What the metric said itself, which Hydra wraps, else the first line of Hydra's."""
    cause = error.__cause__
    if isinstance(cause, ConfigError):
        return cause.problems
    return [str(cause if isinstance(cause, UserError) else error).partition("\n")[0]]


def metrics_of(option: str) -> tuple[Metric, ...]:
    """The metrics of an option of the config group, for use without a run: `metrics_of("structured")`.

    Raises:
        HydraException: there is no such option.
    """
    return build(training_config([f"metrics={option}"]).metrics.scores)
