"""How a sweep shows how far it is: one live screen in a terminal, plain lines elsewhere."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xrayexp.search.results import (
    COMPLETE,
    FAILED,
    INFEASIBLE,
    OUT_OF_MEMORY,
    PRUNED,
    RUNNING,
    SweepResults,
    TrialRecord,
)

STYLES = {COMPLETE: "green", PRUNED: "yellow", INFEASIBLE: "magenta", OUT_OF_MEMORY: "red", FAILED: "red"}
SHOWN = 12  # latest trials on the live screen
BEST = 5  # in the summary
WIDE = 160  # characters of a table that goes to a file or a pipe
REFRESH = 1.0  # seconds
PACE = 8  # latest trials from which the time that is left is told


class Screen:
    """Shows a sweep while it runs.

    Args:
        console: where to; None for the process's own output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout)
        if not self._console.is_terminal:
            self._console.width = WIDE
        self._results: SweepResults | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keeps the live screen up while the body runs; what else is printed appears above it."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._render, refresh_per_second=1 / REFRESH):
            yield

    def update(self, results: SweepResults) -> None:
        """Shows what is known now."""
        self._results = results

    def line(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def told(self, results: SweepResults, trial: TrialRecord) -> None:
        """A trial has ended."""
        self.update(results)
        self.line(f"{_headline(results, trial)} | {status(results)}")

    def summary(self, results: SweepResults, commands: Mapping[str, str]) -> None:
        """The end: the best trials, and what can be done with them.

        Args:
            results: of the whole sweep.
            commands: by what they do.
        """
        self.line(f"\n{results.name}: {status(results)}")
        self._console.print(best_table(results))
        for purpose, command in commands.items():
            self._console.print(Text.assemble((f"{purpose:<10}", "bold"), command), soft_wrap=True)

    def _render(self) -> RenderableType:
        return Text("") if self._results is None else render(self._results)


def status(results: SweepResults) -> str:
    """All of it in one line: how many in which state, the best, the time that is left."""
    counts: Counter[str] = Counter(trial.state for trial in results.trials)
    parts = [f"{done(results)} of {results.n_trials} done"]
    parts += [f"{counts[state]} {state.replace('_', ' ')}" for state in (RUNNING, *STYLES) if counts[state]]
    if (best := results.best()) is not None:
        parts.append(f"best {results.metric} {best.values[results.metric]:.4g} (trial {best.number})")
    if (left := seconds_left(results)) is not None:
        parts.append(f"about {in_words(left)} left")
    return ", ".join(parts)


def done(results: SweepResults) -> int:
    """How many trials count."""
    return len(results.in_state(COMPLETE, PRUNED, INFEASIBLE, OUT_OF_MEMORY))


def seconds_left(results: SweepResults) -> float | None:
    """At the pace of the latest trials, of however many processes; None while none has ended."""
    ended = sorted((trial for trial in results.trials if trial.ended and trial.state != FAILED), key=lambda t: t.ended)
    latest, left = ended[-PACE:], results.n_trials - done(results)
    if not latest or left <= 0:
        return None
    began = min(datetime.fromisoformat(trial.started) for trial in latest)
    return (datetime.fromisoformat(latest[-1].ended) - began).total_seconds() / len(latest) * left


def _seconds(trial: TrialRecord) -> float:
    return (datetime.fromisoformat(trial.ended) - datetime.fromisoformat(trial.started)).total_seconds()


def in_words(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def setting(overrides: Mapping[str, Any]) -> str:
    """What a trial sets, as one would type it, with few digits."""
    return " ".join(f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in overrides.items())  # fmt: skip


def _headline(results: SweepResults, trial: TrialRecord) -> str:
    what = f"trial {trial.number}: {setting(trial.overrides)}"
    if trial.state == COMPLETE:
        found = ", ".join(f"{metric} {value:.4g}" for metric, value in trial.values.items())
        return f"{what} -> {found} in {in_words(_seconds(trial))}"
    return f"{what} -> {trial.state.replace('_', ' ')}" + (f" ({trial.reason})" if trial.reason else "")


def render(results: SweepResults, latest: int = SHOWN) -> RenderableType:
    """The screen: the bar, the counts, the trials, the best one first and then the latest."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        Text(results.name, style="bold"), ProgressBar(total=results.n_trials, completed=done(results), width=40)
    )
    return Group("", grid, Text(status(results)), trial_table(results, latest))


def best_table(results: SweepResults) -> Table:
    """The best complete trials; with several objectives those that no other surpasses."""
    sign = 1 if results.objectives[results.metric] == "maximize" else -1
    found = results.pareto() if len(results.objectives) > 1 else [
        trial for trial in results.in_state(COMPLETE) if trial.feasible
    ]  # fmt: skip
    table, best = _table(results), results.best()
    for trial in sorted(found, key=lambda trial: -sign * trial.values[results.metric])[:BEST]:
        _add_row(table, results, trial, best)
    return table


def _table(results: SweepResults) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("trial", "state", *results.objectives, "time", "settings"):
        table.add_column(Text(name, style="dim"), no_wrap=True)
    return table


def trial_table(results: SweepResults, latest: int) -> Table:
    """The best trial, and the latest ones."""
    best, table = results.best(), _table(results)
    rows = ([best] if best is not None else []) + list(results.trials[-latest:])
    for trial in dict.fromkeys(one.number for one in rows):
        _add_row(table, results, next(one for one in rows if one.number == trial), best)
    return table


def _add_row(table: Table, results: SweepResults, trial: TrialRecord, best: TrialRecord | None) -> None:
    is_best = best is not None and trial.number == best.number
    values = [f"{trial.values[metric]:.4g}" if metric in trial.values else "" for metric in results.objectives]
    if trial.state == RUNNING and values and not values[0]:
        values[0] = _progress(results.folder / trial.folder) if trial.folder else ""
    took = in_words(_seconds(trial)) if trial.ended else ""
    state = "best" if is_best else trial.state.replace("_", " ")
    note = setting(trial.overrides) + (f"  {trial.reason}" if trial.reason else "")
    style = "bold green" if is_best else STYLES.get(trial.state, "cyan")
    table.add_row(str(trial.number), Text(state, style=style), *values, took, Text(note, overflow="ellipsis"))


def _progress(job: Path) -> str:
    """How far a running job is, from its log."""
    try:
        with (job / "logs" / "metrics.csv").open(encoding="utf-8", newline="") as file:
            steps = [int(row["step"]) for row in csv.DictReader(file) if row.get("step")]
    except (OSError, ValueError):  # not there yet, or just being written
        return ""
    return f"step {max(steps) + 1}" if steps else ""
