"""Claims: exactly as many trials as were asked for, each taken once, none lost when its process dies."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from xrayexp.errors import ConfigError
from xrayexp.search.claims import REASON, RETRY_OF, Claim, Claims, sampler_factory
from xrayexp.search.job import Ending, Outcome, TrialJob
from xrayexp.search.records import trial_records
from xrayexp.search.results import Direction, TrialRecord
from xrayexp.search.space import Space, parse_space

Opened = Callable[..., Claims]

SPACE = parse_space({"kind": {"a": {"n": "int(interval(1, 8))"}, "b": {}}, "x": "interval(0.0, 1.0)"}, "search.space")
RANDOM = {"_target_": "optuna.samplers.RandomSampler"}
TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 5, "group": True}


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """`opened(n_trials)`: the claims of one more process on the same sweep."""

    def claims(
        n_trials: int = 4, sampler: Mapping[str, Any] = RANDOM, folder: Path = tmp_path, **changes: Any
    ) -> Claims:
        given: dict[str, Any] = {
            "owner": folder.name, "storage": None, "name": "study", "objectives": {"score": "maximize"},
            "sampler": sampler_factory(sampler), "pruner": optuna.pruners.NopPruner(), "seed": 0,
        } | changes  # fmt: skip
        return Claims(folder, n_trials=n_trials, **given)

    return claims


def taken(claims: Claims) -> Claim:
    """The next trial, its values drawn."""
    claim = claims.claim()
    assert claim is not None
    SPACE.suggest(claim.trial)
    return claim


def complete(claims: Claims, score: float = 0.5) -> Claim:
    claim = taken(claims)
    claims.tell(claim, Outcome("complete", {"score": score}))
    return claim


def dies(claim: Claim) -> None:
    """What becomes of a claim whose process is gone."""
    claim.lock.release()


def records(claims: Claims, space: Space = SPACE) -> list[TrialRecord]:
    return trial_records(claims.study, space, claims.folder, claims.owner)


def params(claims: Claims) -> list[Mapping[str, Any]]:
    """Of what was drawn, without what was tried again."""
    return [one.params for one in records(claims) if one.retry_of is None]


def test_as_many_are_taken_as_were_asked_for(opened: Opened) -> None:
    claims = opened(4)
    running = taken(claims)
    complete(claims)
    claims.tell(taken(claims), Outcome("failed", reason="bad luck"))  # does not count
    claims.tell_infeasible(taken(claims))
    claims.tell(taken(claims), Outcome("pruned", {"score": 0.1}, "pruned at step 2"))
    assert claims.claim() is None
    assert opened(4).claim() is None  # nor does another process find one
    claims.tell(running, Outcome("failed"))
    assert taken(opened(4)).number == 5
    assert [one.state for one in records(claims)][:5] == ["failed", "complete", "failed", "infeasible", "pruned"]
    assert [one.reason for one in records(claims)][2:5] == ["bad luck", "", "pruned at step 2"]


def test_more_trials_go_on_where_fewer_ended(opened: Opened) -> None:
    for _ in range(2):
        complete(opened(2))
    assert opened(2).claim() is None
    assert complete(opened(3)).number == 2


def test_an_infeasible_trial_is_pruned_with_its_constraint(opened: Opened) -> None:
    claims = opened()
    claim = taken(claims)
    claim.trial.set_constraint("memory_gib", 1.5)
    claims.tell_infeasible(claim)
    [trial] = claims.study.trials
    assert (trial.state, trial.constraints) == (optuna.trial.TrialState.PRUNED, {"memory_gib": 1.5})
    [record] = records(claims)
    assert (record.state, record.feasible, record.constraints) == ("infeasible", False, {"memory_gib": 1.5})


def test_tpe_learns_what_is_infeasible(opened: Opened) -> None:
    """A quarter of the space fits, and the objective pulls out of it: few of the later trials fall outside."""
    claims = opened(50, TPE)
    outside = []
    while (claim := claims.claim()) is not None:
        x = claim.trial.suggest_float("x", 0, 1)
        claim.trial.set_constraint("memory_gib", x - 0.25)
        outside.append(x > 0.25)
        if x > 0.25:
            claims.tell_infeasible(claim)
        else:
            claims.tell(claim, Outcome("complete", {"score": x}))
    assert sum(outside[-25:]) < 0.65 * 25  # 0.75 of what is drawn at random


@pytest.mark.parametrize("excess, least", [(2.0, 2.0), (0.0, 1e-3)])
def test_out_of_memory_breaks_a_constraint_and_keeps_its_peak(opened: Opened, excess: float, least: float) -> None:
    claims = opened()
    claims.tell(taken(claims), Outcome("out_of_memory", {"peak_memory_gib": 14.0}, "CUDA out of memory", excess))
    [trial] = claims.study.trials
    assert (trial.state, trial.constraints) == (optuna.trial.TrialState.PRUNED, {"out_of_memory_gib": least})
    [record] = records(claims)
    assert (record.state, record.results, record.feasible) == ("out_of_memory", {"peak_memory_gib": 14.0}, False)
    assert record.reason == "CUDA out of memory"


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, None])
def test_a_trial_without_a_finite_score_failed(opened: Opened, score: float | None) -> None:
    claims = opened()
    claims.tell(taken(claims), Outcome("complete", {} if score is None else {"score": score}))
    [record] = records(claims)
    assert (record.state, record.reason) == ("failed", "the job returned no finite score")


def test_a_dead_trial_is_tried_once_more_and_then_given_up(opened: Opened) -> None:
    dead = taken(opened(1))
    assert opened(1).claim() is None  # it lives
    dies(dead)
    again = taken(opened(1))
    assert (again.number, again.retry_of) == (1, 0)
    assert again.trial.params == dead.trial.params
    dies(again)
    claims = opened(1)
    third = complete(claims)
    assert third.retry_of is None
    assert third.trial.params != dead.trial.params
    first, second, last = records(claims)
    assert (first.state, first.reason) == ("failed", "its process died; tried again")
    assert (second.state, second.reason) == ("failed", "its process died; given up after a retry")
    assert last.state == "complete"


def test_a_trial_that_was_stopped_with_the_sweep_keeps_its_retry(opened: Opened) -> None:
    first = taken(opened(1))
    for turn in range(3):
        claims = opened(1)
        claims.leave(first)
        first = taken(opened(1))
        assert first.retry_of == turn
    dies(first)
    again = taken(opened(1))
    assert again.retry_of == 3
    assert records(opened(1))[0].reason == "stopped with the sweep; tried again"
    dies(again)
    assert taken(opened(1)).retry_of is None


def test_a_trial_that_died_before_a_value_was_drawn_is_drawn_anew(opened: Opened) -> None:
    claim = opened(1).claim()
    assert claim is not None
    dies(claim)
    claims = opened(1)
    assert complete(claims).retry_of is None
    assert records(claims)[0].reason == "its process died; nothing was drawn yet"


@pytest.mark.parametrize("ending", ["complete", "pruned", "out_of_memory", "failed"])
def test_a_dead_trial_whose_job_left_its_outcome_is_told(opened: Opened, ending: Ending, tmp_path: Path) -> None:
    dead = taken(opened(2))
    job = TrialJob(str(tmp_path), "study", dead.number, None, None)
    with job.held():
        dies(dead)
        assert opened(1).claim() is None  # the job outlives the sweep that launched it
        job.write(Outcome(ending, {"score": 0.25}, "a reason"))
    claims = opened(2)
    following = taken(claims)
    assert (following.number, following.retry_of) == (1, None)
    [told, _] = records(claims)
    assert (told.state, told.reason, told.results) == (ending, "a reason", {"score": 0.25})
    assert told.folder == "trials/0"


def test_a_trial_of_another_folder_is_left_to_its_own_processes(opened: Opened, tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path}/study.db"
    ours = opened(3, folder=tmp_path / "a", storage=shared)
    theirs = opened(3, folder=tmp_path / "b", storage=shared)
    dies(taken(ours))
    assert complete(theirs).number == 1  # no process of that folder can know that trial 0 is dead
    assert taken(opened(3, folder=tmp_path / "a", storage=shared)).retry_of == 0
    assert [one.folder for one in records(theirs)] == [""] * 3


def test_a_study_with_other_objectives_is_refused(opened: Opened) -> None:
    opened()
    others: list[Mapping[str, Direction]] = [
        {"score": "minimize"}, {"loss": "maximize"}, {"score": "maximize", "peak_memory_gib": "minimize"},
    ]  # fmt: skip
    for objectives in others:
        with pytest.raises(ConfigError, match=r"has the objectives .*choose another search\.name"):
            opened(objectives=objectives)


@pytest.mark.parametrize("sampler", [RANDOM, TPE], ids=["random", "tpe"])
def test_a_sweep_draws_the_same_whether_it_was_cut_off_or_not(
    opened: Opened, sampler: Mapping[str, Any], tmp_path: Path
) -> None:
    score = iter(range(100))
    at_once = opened(10, sampler, folder=tmp_path / "at once")
    for _ in range(10):
        complete(at_once, float(next(score)))

    cut_off = tmp_path / "cut off"
    for turn in range(10):
        claims = opened(10, sampler, folder=cut_off)
        if turn in (3, 7):
            dies(taken(claims))
            claims = opened(10, sampler, folder=cut_off)
        complete(claims, float(turn))
    found = opened(10, sampler, folder=cut_off)
    assert len(records(found)) == 12
    assert params(found) == params(at_once)
    assert params(opened(10, sampler, folder=tmp_path / "other seed", seed=1)) != params(at_once)


def test_nobody_draws_what_another_is_working_on(opened: Opened) -> None:
    claims = [taken(opened(6)) for _ in range(6)]
    assert len({claim.trial.params["x"] for claim in claims}) == 6


def test_a_retry_says_so(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    dies(taken(opened(1)))
    with caplog.at_level(logging.WARNING):
        again = taken(opened(1))
    assert "trial 0: its process died, its parameters are tried again" in caplog.text
    assert again.trial.user_attrs[RETRY_OF] == 0
    assert REASON not in again.trial.user_attrs
