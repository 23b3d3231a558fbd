"""`xrayexp runs`: all runs below a folder, one line each."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from xrayexp.errors import DataError
from xrayexp.tracking.record import FAILED, FINISHED, KILLED, RUNNING, STOPPED, current_state, read_record
from xrayexp.tracking.run_folder import RunFolder

STYLES = {RUNNING: "cyan", FINISHED: "green", STOPPED: "yellow", FAILED: "red", KILLED: "red"}


@dataclass(frozen=True)
class RunLine:
    """What the list says of one run; None is what is not known, or not yet.

    Attributes:
        started: of its first start.
        step: optimiser steps taken.
        best: best value of `monitor`.
        seconds: wall time of training.
        memory_gib: peak.
        not_good: why the accuracy gate does not call it good.
    """

    folder: Path
    state: str
    started: datetime
    model: str
    data: str
    adapter: str
    rank: int | None
    lr: float | None
    seed: int
    monitor: str
    step: int | None = None
    best: float | None = None
    seconds: float | None = None
    memory_gib: float | None = None
    not_good: str | None = None


def find_runs(folder: Path) -> list[RunLine]:
    """Every run in `folder` and below, the oldest first.

    Raises:
        DataError: there is no such folder, or a run in it cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return sorted((_line(RunFolder(path)) for path in run_folders(folder)), key=lambda line: line.started)


def run_folders(folder: Path) -> Iterator[Path]:
    """Every folder of a run in `folder` and below."""
    if RunFolder(folder).record_file.exists():
        yield folder
        return
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.is_symlink():
            yield from run_folders(below)


def _line(run: RunFolder) -> RunLine:
    config: Any = OmegaConf.to_container(run.config())
    record = read_record(run)
    monitor, state = config["trainer"]["monitor"], current_state(run)
    if state == FINISHED:  # otherwise the summary, if any, is that of a part of the run
        summary = json.loads(run.summary_file.read_text(encoding="utf-8"))
        progress = {
            "step": summary["steps"],
            "best": summary["best_score"],
            "seconds": summary["fit_seconds"],
            "memory_gib": summary["peak_memory_gib"],
            "not_good": summary["not_good"],
        }
    else:
        progress = _progress(run.log_file, monitor)
    return RunLine(
        folder=run.path,
        state=state,
        started=datetime.fromisoformat(record["starts"][0]["started"]),
        model=config["model"]["name"],
        data=config["data"]["name"],
        adapter=config["adapter"]["name"],
        rank=config["adapter"].get("r"),
        lr=config["optimizer"].get("lr"),
        seed=config["seed"],
        monitor=monitor,
        **progress,
    )


def _progress(log_file: Path, monitor: str) -> dict[str, Any]:
    """How far a run without a summary has come, by its log."""
    if not log_file.exists():
        return {}
    with log_file.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row[monitor]) for row in rows if row.get(monitor)]
    steps = [int(row["step"]) for row in rows]
    return {"step": max(steps, default=None), "best": max(scores, default=None)}


def runs_table(lines: list[RunLine], folder: Path) -> Table:
    """The list for a terminal; runs are named by their place in `folder`."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column(f"run in {folder}", overflow="fold", min_width=20)
    shown.add_column("state", no_wrap=True)
    for title in ("model", "adapter"):
        shown.add_column(title, overflow="fold")
    for title in ("r", "lr", "seed", "steps", "best", "time", "GiB"):
        shown.add_column(title, justify="right", no_wrap=True)
    for line in lines:
        shown.add_row(
            str(line.folder.relative_to(folder)),
            Text("not good", style="yellow") if line.not_good else Text(line.state, style=STYLES[line.state]),
            f"{line.model} on {line.data}",
            line.adapter,
            _number(line.rank, "d"),
            _number(line.lr, ".3g"),
            f"{line.seed}",
            _number(line.step, ",d"),
            _number(line.best, ".3f"),
            "-" if line.seconds is None else _duration(line.seconds),
            _number(line.memory_gib, ".2f"),
        )
    monitors = sorted({line.monitor for line in lines})
    shown.caption = f"best: {', '.join(monitors)}" if monitors else None
    return shown


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    """90 s, 12 min or 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
