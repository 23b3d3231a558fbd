"""Sweeps whose processes die at any moment: exactly as many trials as were asked for, none lost, none twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from xrayexp.search.results import COMPLETE, FAILED, read_sweep

TOY = Path(__file__).with_name("toy.py")
TRIALS = 16


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(TOY), f"hydra.sweep.dir={folder}", f"search.n_trials={TRIALS}", *overrides]
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(TOY.parents[2])}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def kill_within(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def trials_begun(folder: Path) -> int:
    return len(list((folder / "trials").glob("*"))) if (folder / "trials").is_dir() else 0


def wait_for_next_trial(processes: list[subprocess.Popen[str]], folder: Path) -> None:
    before = trials_begun(folder)
    while trials_begun(folder) == before and (alive := [process for process in processes if process.poll() is None]):
        try:
            alive[0].wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def check(folder: Path) -> None:
    found = read_sweep(folder)
    complete, failed = found.in_state(COMPLETE), found.in_state(FAILED)
    assert len(complete) == TRIALS
    assert len(complete) + len(failed) == len(found.trials)  # nothing is said to be running for ever
    # Every complete trial was launched once, in a folder of its own with its number.
    for trial in complete:
        starts = (folder / trial.folder / "starts.txt").read_text(encoding="utf-8").splitlines()
        assert (trial.folder, len(starts)) == (f"trials/{trial.number}", 1)
    # A dead trial's parameters are tried once more, in another trial; it may have died before all were drawn.
    retries = Counter(trial.retry_of for trial in found.trials if trial.retry_of is not None)
    assert set(retries.values()) <= {1}
    by_number = {trial.number: trial for trial in found.trials}
    for number in retries:
        again = next(trial for trial in found.trials if trial.retry_of == number)
        assert by_number[number].params.items() <= again.params.items()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_sweep_that_is_killed_five_times_has_all_its_trials(workers: int, tmp_path: Path) -> None:
    rng = random.Random(workers)
    folder = tmp_path / "sweep"
    for _ in range(5):
        running = [start(folder) for _ in range(workers)]
        wait_for_next_trial(running, folder)
        for process in running:
            kill_within(process, rng.uniform(0, 0.5))
        if all(process.returncode == 0 for process in running):
            break
    last = [start(folder) for _ in range(workers)]
    outputs = [process.communicate(timeout=300)[0] for process in last]
    assert [process.returncode for process in last] == [0] * workers, outputs
    check(folder)


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    running = [start(folder) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    check(folder)
    found = read_sweep(folder)
    assert len(found.trials) == TRIALS
    workers = {(folder / trial.folder / "starts.txt").read_text(encoding="utf-8") for trial in found.trials}
    assert len(workers) == 2
    assert len({trial.params["x"] for trial in found.trials}) == TRIALS  # nobody draws what another has drawn
