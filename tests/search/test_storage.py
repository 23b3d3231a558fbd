"""The storage: a torn journal is repaired, URLs that cannot work are refused, and one at a time claims."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayexp.errors import ConfigError
from xrayexp.search.claims import Claims, sampler_factory
from xrayexp.search.job import Outcome
from xrayexp.search.storage import JOURNAL, check_url, open_storage, repair

NEW_TRIAL = 4  # of the journal's op_code


def study(folder: Path) -> optuna.Study:
    return optuna.create_study(storage=open_storage(None, folder), study_name="study", load_if_exists=True)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of a study with three trials."""
    folder = tmp_path_factory.mktemp("sweep")
    study(folder).optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return (folder / JOURNAL).read_bytes()


@settings(max_examples=25)
@given(st.data())
def test_a_torn_last_record_is_cut_off_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, journal: bytes, data: st.DataObject
) -> None:
    end = data.draw(st.integers(journal.index(b"\n") + 1, len(journal)))  # the study itself is there
    folder = tmp_path_factory.mktemp("sweep")
    (folder / JOURNAL).write_bytes(journal[:end])
    whole = journal[: journal.rindex(b"\n", 0, end) + 1]
    trials = sum(json.loads(line)["op_code"] == NEW_TRIAL for line in whole.splitlines())
    found = optuna.load_study(study_name="study", storage=open_storage(None, folder))
    assert (folder / JOURNAL).read_bytes() == whole
    assert len(found.trials) == trials
    found.add_trial(optuna.trial.create_trial(value=1.0))
    assert len(study(folder).trials) == trials + 1


def test_a_torn_record_that_is_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    file = tmp_path / JOURNAL
    for whole in (b"{}\n", b""):
        file.write_bytes(whole + b"{" + b" " * 200_000)
        repair(file)
        assert file.read_bytes() == whole
    repair(tmp_path / "not there")


@pytest.mark.parametrize("url", [None, "sqlite:////tmp/study.db", "postgresql://me@server/database"])
def test_urls_that_can_be_used(url: str | None) -> None:
    assert check_url(url) == []


@pytest.mark.parametrize(
    "url, problem",
    [
        ("study.db", "search.storage: 'study.db' is no URL of a database: sqlite:////FOLDER/study.db, postgresql://"),
        ("mysql://server/database", "search.storage: mysql is not supported"),
        ("postgresql://me:secret@server/database", "search.storage: leave the password out of the URL"),
        ("postgresql://me@server/database?password=secret", "search.storage: leave the password out of the URL"),
        ("sqlite:///study.db", "search.storage: 'sqlite:///study.db' must be the absolute path of a file"),
        ("sqlite://", "search.storage: 'sqlite://' must be the absolute path of a file"),
    ],
)
def test_urls_that_cannot_be_used(url: str, problem: str) -> None:
    [found] = check_url(url)
    assert found.startswith(problem)
    assert "secret" not in found


def test_a_database_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.storage: sqlite:///.*/not/there/study\.db cannot be used"):
        open_storage(f"sqlite:///{tmp_path}/not/there/study.db", tmp_path)


@pytest.mark.parametrize("database", [False, True], ids=["journal", "sqlite"])
def test_those_who_work_at_once_take_no_trial_too_many_and_end_none_of_another(database: bool, tmp_path: Path) -> None:
    """Counting and asking in two steps gave 4 and 5 trials of 2; what was told without the lock was told twice."""
    url = f"sqlite:///{tmp_path}/study.db" if database else None
    numbers: list[int] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            claims = Claims(
                tmp_path, "me", url, "study", {"score": "maximize"}, 12,
                sampler_factory({"_target_": "optuna.samplers.RandomSampler"}), optuna.pruners.NopPruner(), 0,
            )  # fmt: skip
            while (claim := claims.claim()) is not None:
                numbers.append(claim.number)
                claim.trial.suggest_float("x", 0, 1)
                claims.tell(claim, Outcome("complete", {"score": 1.0}))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(numbers) == list(range(12))
