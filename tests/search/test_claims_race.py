"""Two processes at the same trial at the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler

from xrayexp.search import job
from xrayexp.search.claims import Claims
from xrayexp.search.job import Outcome, TrialJob


@pytest.mark.parametrize("left_behind", [True, False])
@pytest.mark.parametrize("database", [True, False])
def test_a_trial_that_ends_while_another_process_looks_at_it_is_told_once(
    left_behind: bool, database: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/study.db" if database else None

    def process() -> Claims:
        return Claims(tmp_path, "owner", url, "study", {"score": "maximize"}, 2, RandomSampler, NopPruner(), 0)

    one, other = process(), process()
    claim = one.claim()
    assert claim is not None
    done, is_alive = Outcome("complete", {"score": 1.0}), job.is_alive
    if left_behind:
        claim_folder = job.job_folder(tmp_path, claim.number)
        claim_folder.mkdir(parents=True)
        TrialJob(str(tmp_path), "study", claim.number, url, None).write(done)

    def told_meanwhile(sweep: Path, number: int) -> bool:
        if not told:  # after the list of running trials was read, before their locks are looked at
            told.append(number)
            one.tell(claim, done)
        return is_alive(sweep, number)

    told: list[int] = []
    monkeypatch.setattr(job, "is_alive", told_meanwhile)
    following = other.claim()
    assert told == [claim.number]
    assert following is not None
    assert [trial.state.name for trial in other.study.get_trials()] == ["COMPLETE", "RUNNING"]
    following.lock.release()
