"""Runs the tasks, each in a process of its own that may fail in whatever way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.results import Values
from experiments.study import ROOT

FAILED, NOT_RUN = "failed", "not run"


def answer_of(task: str, job: Values, deadline: float) -> Values:
    """What a task of `tasks.py` answers, or how it ended: `outcome` and `reason`.

    Args:
        task: its name.
        job: its argument.
        deadline: when it is ended, on the clock of time.monotonic().
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        return {"outcome": NOT_RUN, "reason": "the time was up"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "experiments.gpu_12gb.tasks", task, json.dumps(job), str(file)]
        try:
            # From the repository's root, where the package experiments lies.
            done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"outcome": NOT_RUN, "reason": "stopped when the time was up"}
        if done.returncode != 0 or not file.exists():
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            return {"outcome": FAILED, "reason": last}
        answer: Values = json.loads(file.read_text(encoding="utf-8"))
        return answer


def answers_of(task: str, jobs: Sequence[Values], deadline: float) -> list[Values]:
    """Those of several jobs, on three of four cores at once: each keeps one busy and takes a gigabyte."""
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) * 3 // 4)) as threads:
        return [*threads.map(lambda job: answer_of(task, job, deadline), jobs)]
