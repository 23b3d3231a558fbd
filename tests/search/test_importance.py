"""Importance is Optuna's PED-ANOVA, and silent where nothing can be said."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution, distribution_to_json, json_to_distribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from xrayexp.search.importance import BEST, FEWEST, assumed_distributions, importance


def objective(trial: optuna.Trial) -> float:
    """The rate decides; the rank, which only one adapter has, decides little, the warm-up nothing."""
    adapter = trial.suggest_categorical("adapter", ["lora", "none"])
    rate = trial.suggest_float("optimizer.lr", 0.0, 1.0)
    trial.suggest_float("trainer.warmup", 0.0, 1.0)
    rank = trial.suggest_int("adapter=lora/adapter.r", 1, 32) if adapter == "lora" else 0
    return -abs(rate - 0.7) + 1e-4 * rank


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    found.optimize(objective, n_trials=50)
    return found


def of(study: optuna.Study) -> tuple[list[dict[str, object]], list[dict[str, str]], list[float]]:
    """What trials.json keeps of a study."""
    texts = [{name: distribution_to_json(one) for name, one in t.distributions.items()} for t in study.trials]
    return [t.params for t in study.trials], texts, [float(t.value or 0.0) for t in study.trials]


def test_it_is_what_optuna_says_of_the_study(study: optuna.Study) -> None:
    found = importance(*of(study), "maximize")
    expected = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST / 50))
    assert found.shares == pytest.approx(expected)
    assert list(found.shares.values()) == sorted(found.shares.values(), reverse=True)
    assert next(iter(found.shares)) == "optimizer.lr"
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.trials, found.best, found.left_out, found.reason) == (50, BEST, [], "")


def test_the_direction_says_which_are_best(study: optuna.Study) -> None:
    params, texts, values = of(study)
    same = importance(params, texts, [-value for value in values], "minimize")
    assert same.shares == pytest.approx(importance(params, texts, values, "maximize").shares)
    other = importance(params, texts, values, "minimize")
    assert other.shares["optimizer.lr"] != pytest.approx(same.shares["optimizer.lr"])


def test_few_trials_and_equal_ones_say_nothing(study: optuna.Study) -> None:
    params, texts, values = of(study)
    few = importance(params[: FEWEST - 1], texts[: FEWEST - 1], values[: FEWEST - 1], "maximize")
    assert (few.shares, few.trials) == ({}, FEWEST - 1)
    assert f"at least {FEWEST}" in few.reason
    equal = importance(params, texts, [0.5] * len(values), "maximize")
    assert equal.shares == {}
    assert "score the same" in equal.reason


def test_a_parameter_of_one_trial_is_left_out(study: optuna.Study) -> None:
    params, texts, values = of(study)
    texts = [{**one} for one in texts]
    params = [{**one} for one in params]
    params[3]["seed"], texts[3]["seed"] = 0.5, distribution_to_json(FloatDistribution(0, 1))
    found = importance(params, texts, values, "maximize")
    assert found.left_out == ["seed"]
    assert "seed" not in found.shares


def test_where_values_that_nobody_drew_come_from() -> None:
    given = [{"r": 4, "lr": 1e-4, "name": "lora"}, {"r": 8, "lr": 1e-2, "name": "dora"}, {"name": "none", "r": 8}]
    found = assumed_distributions(given)
    assert [set(one) for one in found] == [set(one) for one in given]
    assert json_to_distribution(found[0]["lr"]) == FloatDistribution(1e-4, 1e-2, log=True)
    assert json_to_distribution(found[0]["r"]) == FloatDistribution(4, 8)
    assert json_to_distribution(found[0]["name"]).choices == ("lora", "dora", "none")  # type: ignore[attr-defined]
    mixed = assumed_distributions([{"x": 1}, {"x": "none"}])
    assert json_to_distribution(mixed[0]["x"]).choices == ("1", "none")  # type: ignore[attr-defined]
    words = [{"x": 1 if index % 2 else "none"} for index in range(20)]
    ranks = [float(index % 2) + 0.01 * index for index in range(20)]
    assert importance(words, assumed_distributions(words), ranks, "maximize").shares == {"x": 1.0}
