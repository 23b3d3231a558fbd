"""Sweeps whose jobs run elsewhere: in processes of their own, in joblib's workers, in submitit's jobs, with Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from xrayexp.errors import UserError
from xrayexp.search import job
from xrayexp.search.job import TrialJob
from xrayexp.search.results import COMPLETE, FAILED, SweepResults, read_sweep

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).with_name("toy.py")
TERMINATED = 128 + signal.SIGTERM


def start(program: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(program), *arguments], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    return output


def toy(folder: Path, *arguments: str) -> tuple[str, ...]:
    return (f"hydra.sweep.dir={folder}", *arguments)


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    while not file.exists():
        assert process.poll() is None, end(process)
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def starts(results: SweepResults) -> Sequence[int]:
    """How often each trial was launched."""
    files = [results.folder / trial.folder / "starts.txt" for trial in results.trials]
    return [len(file.read_text(encoding="utf-8").splitlines()) for file in files]


def test_a_process_that_dies_is_a_failed_trial_with_its_last_line(tmp_path: Path) -> None:
    process = start(
        TOY, *toy(tmp_path, "hydra/launcher=subprocess", "behaviour=die", "search.n_trials=1", "search.max_failures=1")
    )
    output = end(process)
    assert process.returncode == 1, output
    assert "1 trials in a row failed" in output  # the sweep has outlived it, and says so
    [trial] = read_sweep(tmp_path).trials
    assert trial.state == FAILED
    assert trial.reason.startswith("the job was ended by SIGKILL: about to die (its output: ")


def test_a_signal_reaches_the_job_and_the_sweep_goes_on_later(tmp_path: Path) -> None:
    overrides = toy(tmp_path, "hydra/launcher=subprocess", "behaviour=wait", "search.n_trials=1")
    process = start(TOY, *overrides)
    wait_for(tmp_path / "trials" / "0" / "starts.txt", process)
    process.send_signal(signal.SIGTERM)
    assert end(process) is not None
    assert process.returncode == TERMINATED
    assert not job.is_alive(tmp_path, 0)  # the job has ended before the sweep did
    (tmp_path / "go").touch()
    last = start(TOY, *overrides)
    assert "1 complete, 1 failed" in end(last)
    results = read_sweep(tmp_path)
    assert [(trial.state, trial.retry_of) for trial in results.trials] == [(FAILED, None), (COMPLETE, 0)]
    assert results.trials[0].reason == "stopped with the sweep; tried again"
    assert starts(results) == [1, 1]


def test_a_job_that_leaves_a_queue_too_late_does_not_begin(tmp_path: Path) -> None:
    late = TrialJob(str(tmp_path), "study", 4, None, None)
    assert job.give_up(tmp_path, 4)
    with pytest.raises(UserError, match="trial 4 was given up before its job began"), late.held():
        pass
    with TrialJob(str(tmp_path), "study", 5, None, None).held():
        assert not job.give_up(tmp_path, 5)  # it has begun: it is waited for
        assert job.is_orphan(tmp_path, 5)
        with FileLock(tmp_path / job.LOCKS / "5"):
            assert not job.is_orphan(tmp_path, 5)  # a sweep waits for it
    assert not job.is_orphan(tmp_path, 5)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["subprocess", "joblib", "submitit_local", "ray"])
def test_any_launcher_runs_one_job_at_a_time(launcher: str, tmp_path: Path) -> None:
    if launcher == "ray":
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="pip install hydra-ray-launcher")
    process = start(TOY, *toy(tmp_path, f"hydra/launcher={launcher}", "behaviour=trial", "search.n_trials=4"))
    output = end(process)
    assert process.returncode == 0, output
    results = read_sweep(tmp_path)
    assert [trial.state for trial in results.trials] == [COMPLETE] * 4
    assert starts(results) == [1] * 4
    for trial in results.trials:
        left = json.loads((tmp_path / trial.folder / "outcome.json").read_text(encoding="utf-8"))
        assert left["results"]["score"] == trial.values["score"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["subprocess", "submitit_local"])
def test_a_job_outlives_its_sweep_and_the_next_one_tells_its_outcome(launcher: str, tmp_path: Path) -> None:
    overrides = toy(tmp_path, f"hydra/launcher={launcher}", "behaviour=wait", "search.n_trials=1")
    process = start(TOY, *overrides)
    wait_for(tmp_path / "trials" / "0" / "starts.txt", process)
    process.send_signal(signal.SIGKILL)
    process.wait()  # and not for its output, which the job may hold open
    while not job.is_orphan(tmp_path, 0):  # its lock comes a moment after its line
        assert read_sweep(tmp_path).trials[0].state == "running"
    resumed = start(TOY, *overrides)
    assert resumed.stdout is not None
    lines = [resumed.stdout.readline(), resumed.stdout.readline()]
    assert "trial 0: its job goes on without the process that launched it" in lines[1], lines
    (tmp_path / "go").touch()
    assert "1 of 1 done" in end(resumed)
    results = read_sweep(tmp_path)
    assert [trial.state for trial in results.trials] == [COMPLETE]  # none was doubled
    assert starts(results) == [1]


@pytest.mark.slow
def test_a_training_in_its_own_process_is_saved_on_a_signal_and_goes_on(tmp_path: Path, small: Sequence[str]) -> None:
    folder = tmp_path / "sweep"
    process = start(
        ROOT / "sweep.py", f"hydra.sweep.dir={folder}", "hydra/launcher=subprocess", "search.n_trials=1",
        *[one for one in small if "max_steps" not in one and "validate" not in one], "trainer.max_steps=20",
        "trainer.validate_every=20",
    )  # fmt: skip
    wait_for(folder / "trials" / "0" / "logs" / "metrics.csv", process)
    process.send_signal(signal.SIGTERM)
    output = end(process)
    assert process.returncode == TERMINATED, output
    last = start(ROOT / "sweep.py", f"resume={folder}")
    output = end(last)
    assert last.returncode == 0, output
    results = read_sweep(folder)
    assert [trial.state for trial in results.trials] == [FAILED, COMPLETE]
    assert results.trials[1].results["steps"] == 20
    log = (folder / "trials" / "1" / "sweep.log").read_text(encoding="utf-8")
    assert "trial 1 goes on from the checkpoint of trial 0" in log


@pytest.mark.slow
def test_a_grid_runs_each_job_in_its_own_process(tmp_path: Path, small: Sequence[str]) -> None:
    process = start(
        ROOT / "train.py", "-m", "hydra/launcher=subprocess", f"hydra.sweep.dir={tmp_path}", "adapter.r=2,0", *small
    )
    output = end(process)
    assert process.returncode == 2, output  # a rank of 0 makes no sense
    assert "error: the job ended with exit status 2: " in output
    assert (tmp_path / "0" / "summary.json").is_file()
    assert "adapter.r" in (tmp_path / "1" / "output.log").read_text(encoding="utf-8")
