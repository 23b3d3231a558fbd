"""Sheets: what is read of a sweep and of run folders, who is best, what was saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Compose
from tests.tracking.sweep_folders import BUDGET, METRIC
from xrayexp.search.results import Direction, SweepResults, TrialRecord, read_sweep
from xrayexp.tracking.evaluated import runs_at
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.savings import savings_of
from xrayexp.tracking.sheet import MEMORY, Row, Sheet
from xrayexp.tracking.sheet_of_runs import sheet_of_runs
from xrayexp.tracking.sheet_of_sweep import config_key, readable, sheet_of_sweep


@pytest.fixture(scope="module")
def results(sweep: Path) -> SweepResults:
    return read_sweep(sweep)


def test_names_of_parameters() -> None:
    for name, key, words in (
        ("seed", "seed", "seed"),
        ("adapter=lora/adapter.r", "adapter.r", "adapter.r where adapter=lora"),
        ("adapter=lora/data/source", "data/source", "data/source where adapter=lora"),
        ("a=x/b.c=y/d.e", "d.e", "d.e where a=x, b.c=y"),
    ):
        assert (config_key(name), readable(name)) == (key, words)


def test_a_sweep_becomes_a_sheet(results: SweepResults) -> None:
    sheet = sheet_of_sweep(results)
    by_key = {axis.key: axis for axis in sheet.axes}
    assert set(by_key) == {"adapter", "adapter.r", "optimizer.lr", "trainer.warmup"}, "by config key, not by branch"
    assert by_key["optimizer.lr"].log
    assert by_key["adapter.r"].gaps
    assert not by_key["trainer.warmup"].gaps
    assert sheet.family is by_key["adapter"]
    assert sheet.branching == ("adapter",)
    best = results.best()
    assert best is not None
    assert sheet.ranked()[0].name == str(best.number)
    assert {row.state for row in sheet.rows} > {"complete", "infeasible", "pruned"}
    assert all(row.ended_well for row in sheet.ranked())
    row = sheet.rows[best.number]
    assert row.path == str(results.folder / "trials" / str(best.number))
    assert [step for step, _ in row.curve] == [20, 40, 60, 80, 100]
    assert row.facts[MEMORY] <= BUDGET
    assert sheet.about[0].startswith("24 trials (")
    assert sheet.about[0].endswith("30 are to end complete, pruned or infeasible.")


def test_what_a_sweep_without_its_job_folders_says(results: SweepResults, tmp_path: Path) -> None:
    for file in ("sweep.json", "trials.json"):
        shutil.copy(results.folder / file, tmp_path)
    there, gone = sheet_of_sweep(results), sheet_of_sweep(read_sweep(tmp_path))
    assert [row.values for row in gone.rows] == [row.values for row in there.rows]
    best = gone.ranked()[0]
    assert [step for step, _ in best.curve] == [20, 40, 60, 80, 100], "the pruner's reports"


def test_savings_are_estimated_from_complete_trials(tmp_path: Path) -> None:
    def trial(number: int, state: str, **results: float) -> TrialRecord:
        reports = [(20, 0.1), (40, 0.2)] if state == "pruned" and not results else []
        return TrialRecord(number, state, results=results, reports=reports)  # type: ignore[arg-type]

    trials = [
        trial(0, "complete", fit_seconds=100, fit_cpu_seconds=80, steps=100),
        trial(1, "complete", fit_seconds=300, fit_cpu_seconds=240, steps=100),
        trial(2, "complete", fit_seconds=200, fit_cpu_seconds=160, steps=100),
        trial(3, "infeasible"),
        trial(4, "infeasible"),
        trial(5, "pruned"),
        trial(6, "pruned", steps=60, fit_seconds=120, fit_cpu_seconds=96),
        trial(7, "out_of_memory"),
    ]
    found = savings_of(SweepResults(tmp_path, "s", {"m": "maximize"}, 8, "TPE", "median", [], trials))
    assert (found.infeasible, found.pruned, found.out_of_memory) == (2, 2, 1)
    assert (found.infeasible_seconds, found.infeasible_cpu_seconds) == (400, 320)
    assert (found.steps_taken, found.steps_left) == (100, 100)
    assert (found.pruned_seconds, found.pruned_cpu_seconds) == (200, 160)
    assert found.spent_seconds == 720
    nothing = savings_of(SweepResults(tmp_path, "s", {"m": "maximize"}, 8, "TPE", "median", [], trials[3:6]))
    assert (nothing.infeasible_seconds, nothing.pruned_seconds, nothing.steps_left) == (None, None, 0)


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans(), st.booleans()), max_size=12)


@settings(max_examples=80)
@given(points=POINTS, direction=st.sampled_from(["maximize", "minimize"]))
def test_the_front_is_what_nothing_surpasses(points: list[tuple[int, int, bool, bool]], direction: Direction) -> None:
    rows = tuple(
        Row(str(i), "complete" if well else "pruned", values={"m": value}, facts={MEMORY: cost}, feasible=feasible)
        for i, (value, cost, well, feasible) in enumerate(points)
    )
    sheet = Sheet("s", "run", {"m": direction}, rows, ())
    sign = 1 if direction == "maximize" else -1
    allowed = [(sign * value, cost) for value, cost, well, feasible in points if well and feasible]
    expected = {
        (value, cost)
        for value, cost in allowed
        if not any(v >= value and c <= cost and (v, c) != (value, cost) for v, c in allowed)
    }
    front = sheet.front(MEMORY)
    assert {(sign * sheet.value(row), row.facts[MEMORY]) for row in front} == expected
    assert [row.facts[MEMORY] for row in front] == sorted(row.facts[MEMORY] for row in front)
    ranked = sheet.ranked()
    assert len(ranked) == len(allowed)
    assert {row.name for row in sheet.ordered()} == {row.name for row in rows}
    if ranked:
        assert sign * sheet.value(ranked[0]) == max(value for value, _ in allowed)


def test_runs_become_a_sheet(results: SweepResults, compose: Compose, tmp_path: Path) -> None:
    """A finished one with its summary, a failed one, one whose run.json is gone, one that watched something else."""
    config = compose()
    for number, name in enumerate(("finished", "failed", "unknown", "loss")):
        shutil.copytree(next(Path(results.folder).glob("trials/*")), tmp_path / name)
        content = config.copy()
        content.seed = number
        if name == "loss":
            content.trainer.monitor = "val/exact_match"
        content.paths.output_dir = "/home/somebody/outputs"
        RunFolder(tmp_path / name).write_config(content)  # type: ignore[arg-type]
    finished, failed, unknown = (RunFolder(tmp_path / name) for name in ("finished", "failed", "unknown"))
    summary = {"monitor": METRIC, "best_score": 0.9, "steps": 77, "fit_seconds": 5.0, "peak_memory_gib": 2.0}
    finished.summary_file.write_text(json.dumps(summary))
    finished.plan_file.write_text(json.dumps({"budget_gib": 12.0}))
    failed.record_file.write_text(json.dumps({"state": "failed", "reason": "ValueError: /home/somebody/x is empty"}))
    failed.summary_file.write_text(json.dumps(summary))
    unknown.record_file.unlink()
    sheet = sheet_of_runs(runs_at([str(tmp_path / name) for name in ("finished", "failed", "unknown", "loss")]))
    rows = {row.name: row for row in sheet.rows}
    assert rows["finished"].values == {METRIC: 0.9}
    assert rows["finished"].facts == {"budget_gib": 12.0, "steps": 77, "fit_seconds": 5.0, MEMORY: 2.0}
    assert (rows["failed"].state, rows["failed"].reason) == ("failed", "ValueError: x is empty")
    assert rows["failed"].values[METRIC] == max(value for _, value in rows["failed"].curve) != 0.9
    assert rows["unknown"].state == "unknown"
    assert {axis.key for axis in sheet.axes} == {"seed", "trainer.monitor"}
    assert sheet.ranked()[0].name == "finished"
    assert len(sheet.warnings) == 1
    assert "of loss its best value" in sheet.warnings[0]
