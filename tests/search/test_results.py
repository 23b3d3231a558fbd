"""The files of a sweep: they are read as they were written, and best and front are what their names say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayexp.errors import DataError
from xrayexp.search.results import (
    COMPLETE,
    SWEEP_FILE,
    TRIALS_FILE,
    SweepResults,
    TrialRecord,
    is_sweep,
    read_sweep,
    write_json,
    write_trials,
)

ABOUT = SweepResults(
    folder=Path(), name="study", objectives={"score": "maximize", "peak_memory_gib": "minimize"}, n_trials=9,
    sampler="TPESampler", pruner="NopPruner", fixed=["search=default"], trials=[],
)  # fmt: skip

scores = st.integers(-3, 3).map(float)  # few values: many are equal
trials = st.lists(
    st.builds(
        TrialRecord,
        number=st.integers(0, 999),
        state=st.sampled_from(["complete", "complete", "pruned", "infeasible", "failed", "running"]),
        values=st.fixed_dictionaries({"score": scores, "peak_memory_gib": scores}),
        constraints=st.dictionaries(st.just("memory_gib"), scores),
        params=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()),
        reports=st.lists(st.tuples(st.integers(0, 9), scores)),
        reason=st.text(),
    ),
    unique_by=lambda trial: trial.number,
    max_size=8,
)


@given(trials)
def test_best_and_front(given: list[TrialRecord]) -> None:
    sweep = replace(ABOUT, trials=given)
    allowed = [one for one in given if one.state == COMPLETE and one.feasible]
    best, front = sweep.best(), sweep.pareto()
    assert (best is None) == (front == []) == (allowed == [])
    for one in allowed:
        assert best is not None
        assert one.values["score"] <= best.values["score"]
        better = [
            other for other in allowed
            if other.values != one.values
            and other.values["score"] >= one.values["score"]
            and other.values["peak_memory_gib"] <= one.values["peak_memory_gib"]
        ]  # fmt: skip
        assert (one in front) == (better == [])
    upside_down = replace(sweep, objectives={"score": "minimize"}).best()
    assert upside_down is None or upside_down.values["score"] == min(one.values["score"] for one in allowed)


@settings(max_examples=25)
@given(trials)
def test_they_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, given: list[TrialRecord]) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    names = ("name", "objectives", "n_trials", "sampler", "pruner", "fixed")
    write_json(folder / SWEEP_FILE, {name: getattr(ABOUT, name) for name in names} | {"of another version": 1})
    assert is_sweep(folder)
    assert read_sweep(folder) == replace(ABOUT, folder=folder)
    write_trials(folder, given)
    assert read_sweep(folder) == replace(ABOUT, folder=folder, trials=given)


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    assert not is_sweep(tmp_path)
    with pytest.raises(DataError, match=r"is not the folder of a sweep: sweep\.json is missing"):
        read_sweep(tmp_path)
    (tmp_path / SWEEP_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"sweep\.json cannot be read"):
        read_sweep(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_trials(tmp_path, [TrialRecord(0, "complete", values={"score": float("nan")})])
    assert not (tmp_path / TRIALS_FILE).exists()
