"""Which parameters set the best trials apart: PED-ANOVA, by Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xrayexp.search.results import Direction

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FEWEST = 10  # trials
BEST = 5  # of them are looked at, and a tenth of all if that is more: Optuna's documentation asks for no fewer
SHARE = 0.1
LOG_RATIO = 20.0  # from here on values are taken for drawn on a logarithmic scale, if nothing says how


@dataclass(frozen=True, slots=True)
class Importance:
    """How much each parameter has to do with being among the best.

    Attributes:
        shares: by the parameter's name, of 1 in all, the largest first; empty where `reason` says why.
        trials: that were looked at.
        best: how many of them are the best.
        left_out: parameters that all trials but one have, or one alone: nothing can be said of them.
        reason: why nothing is said, one sentence.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    trials: int = 0
    best: int = 0
    left_out: Sequence[str] = ()
    reason: str = ""


def importance(
    params: Sequence[Mapping[str, Any]],
    distributions: Sequence[Mapping[str, str]],
    values: Sequence[float],
    direction: Direction,
) -> Importance:
    """PED-ANOVA (Watanabe et al., IJCAI 2023), with conditional parameters (Optuna's condPED-ANOVA, KDD 2026).

    Compares where the best trials lie with where all lie, parameter by parameter. Unlike fANOVA it fits no model of
    the metric; interactions are not seen.

    Args:
        params: of each complete trial, by name.
        distributions: of each trial: Optuna's JSON of where every parameter was drawn from.
        values: of each trial: the metric.
        direction: which of its values are better.
    """
    trials = len(values)
    if trials < FEWEST:
        reason = f"Importance needs at least {FEWEST} that ended well with a score; there are {trials}."
        return Importance(trials=trials, reason=reason)
    wanted = max(BEST, math.ceil(SHARE * trials))
    sign = 1 if direction == "maximize" else -1
    limit = sorted((sign * value for value in values), reverse=True)[wanted - 1]
    best = sum(sign * value >= limit for value in values)  # with equals of the last
    if best == trials:
        return Importance(trials=trials, reason="Too many score the same to tell what sets the best ones apart.")
    assessed, left_out = _assessed(distributions)
    shares = _shares(_trials(params, distributions, values), assessed, direction, wanted / trials)
    if len(set(shares.values())) < min(2, len(assessed)):
        return Importance(trials=trials, reason="The best lie where all the others lie: no choice stands out.")
    return Importance(shares, trials, best, left_out)


def is_number(value: object) -> bool:
    """Whether a value has a place among numbers; True and False are words."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def assumed_distributions(params: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Where values that nobody drew may have come from: numbers from their own range, the rest from those there are."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

    found: dict[str, str] = {}
    for name in dict.fromkeys(name for one in params for name in one):
        values = list(dict.fromkeys(one[name] for one in params if name in one))
        numbers = [float(value) for value in values if is_number(value)]
        distribution: BaseDistribution
        if len(numbers) < len(values):
            distribution = CategoricalDistribution([str(value) for value in values])
        else:
            low, high = min(numbers), max(numbers)
            distribution = FloatDistribution(low, high, log=low > 0 and high / low >= LOG_RATIO)
        found[name] = distribution_to_json(distribution)
    return [{name: found[name] for name in one} for one in params]


def _assessed(distributions: Sequence[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """The parameters of which at least two trials were drawn in each way, or had none; and the others."""
    names = dict.fromkeys(name for one in distributions for name in one)
    assessed: list[str] = []
    left_out: list[str] = []
    for name in names:
        ways = [one.get(name) for one in distributions]
        (assessed if all(ways.count(way) >= 2 for way in set(ways)) else left_out).append(name)
    return assessed, left_out


def _trials(
    params: Sequence[Mapping[str, Any]], distributions: Sequence[Mapping[str, str]], values: Sequence[float]
) -> list[FrozenTrial]:
    from optuna.distributions import CategoricalDistribution, json_to_distribution
    from optuna.trial import create_trial

    trials = []
    for given, texts, value in zip(params, distributions, values, strict=True):
        drawn = {name: json_to_distribution(text) for name, text in texts.items()}
        # Among words a number is a word, too.
        fitting = {
            name: str(given[name])
            if isinstance(one, CategoricalDistribution) and given[name] not in one.choices
            else given[name]
            for name, one in drawn.items()
        }
        trials.append(create_trial(params=fitting, distributions=drawn, value=value))
    return trials


def _shares(trials: Sequence[FrozenTrial], names: list[str], direction: Direction, quantile: float) -> dict[str, float]:
    """By name, of 1 in all, the largest first; all the same where nothing stands out."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line about a study in memory
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    shares = get_param_importances(study, evaluator=evaluator, params=names)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
