"""What a sweep has found so far: sweep.json and trials.json in its folder, for people, pages and loggers.

The study's storage is the truth; these files are written from it after every trial, so that nothing that only reads
needs Optuna, a database or the locks of a sweep that still runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from xrayexp.errors import DataError
from xrayexp.replacing import replaced

SWEEP_FILE, TRIALS_FILE = "sweep.json", "trials.json"

Direction: TypeAlias = Literal["maximize", "minimize"]
State: TypeAlias = Literal["complete", "pruned", "infeasible", "out_of_memory", "failed", "running"]

COMPLETE: Final = "complete"
PRUNED: Final = "pruned"
INFEASIBLE: Final = "infeasible"
OUT_OF_MEMORY: Final = "out_of_memory"
FAILED: Final = "failed"
RUNNING: Final = "running"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: in the study, from 0; also the name of its job folder.
        state: complete; pruned, on its validation metric; infeasible, told by a constraint without being launched;
            out_of_memory; failed; running.
        params: by the name in the study, such as "adapter" and "adapter=lora/adapter.r".
        overrides: by config key, such as "adapter.r": what the trial set, whatever branch it comes from.
        distributions: by the name in the study: Optuna's JSON of where the value was drawn from.
        values: by metric, of the objectives; of a pruned trial the last one reported. Empty where there are none.
        results: all numbers that the job returned, by name: val/micro_f1, peak_memory_gib, fit_seconds ...
        constraints: by name; above 0 is not feasible.
        reports: (optimiser step, validation metric) as the pruner saw them.
        started: ISO 8601 with the offset to UTC.
        ended: the same; empty while it runs.
        folder: of the job, relative to the sweep's; empty where none was launched, or on another machine.
        reason: why it is not complete, one line.
        retry_of: number of the dead trial whose parameters these are; None for none.
    """

    number: int
    state: State
    params: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    reports: Sequence[tuple[int, float]] = ()
    started: str = ""
    ended: str = ""
    folder: str = ""
    reason: str = ""
    retry_of: int | None = None

    @property
    def feasible(self) -> bool:
        """Whether no constraint forbids it."""
        return all(value <= 0 for value in self.constraints.values())


@dataclass(frozen=True, slots=True)
class SweepResults:
    """A sweep.

    Attributes:
        folder: of the sweep.
        name: of the study.
        objectives: by metric, the first one first.
        n_trials: how many it is to have, complete and pruned (infeasible ones among them).
        sampler: its name.
        pruner: its name.
        fixed: overrides that all trials share.
        trials: by number.
    """

    folder: Path
    name: str
    objectives: Mapping[str, Direction]
    n_trials: int
    sampler: str
    pruner: str
    fixed: Sequence[str]
    trials: Sequence[TrialRecord]

    @property
    def metric(self) -> str:
        """The first objective."""
        return next(iter(self.objectives))

    def in_state(self, *states: str) -> list[TrialRecord]:
        """The trials that are in one of these states."""
        return [trial for trial in self.trials if trial.state in states]

    def best(self) -> TrialRecord | None:
        """The feasible complete trial with the best value of the first objective, the earliest of equals."""
        sign = 1 if self.objectives[self.metric] == "maximize" else -1
        finished = [trial for trial in self.in_state(COMPLETE) if trial.feasible]
        return max(finished, key=lambda trial: sign * trial.values[self.metric], default=None)

    def pareto(self) -> list[TrialRecord]:
        """The feasible complete trials that no other surpasses in one objective and equals in the rest."""
        finished = [trial for trial in self.in_state(COMPLETE) if trial.feasible]
        return [one for one in finished if not any(self._dominates(other, one) for other in finished)]

    def _dominates(self, one: TrialRecord, other: TrialRecord) -> bool:
        gains = [
            (one.values[metric] - other.values[metric]) * (1 if direction == "maximize" else -1)
            for metric, direction in self.objectives.items()
        ]
        return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (folder / SWEEP_FILE).is_file()


def read_sweep(folder: Path) -> SweepResults:
    """What a sweep has found so far.

    Raises:
        DataError: the folder is not that of a sweep, or a file in it cannot be read.
    """
    about = _read(folder / SWEEP_FILE)
    trials = _read(folder / TRIALS_FILE) if (folder / TRIALS_FILE).is_file() else {"trials": []}
    known = {name: about[name] for name in ("name", "objectives", "n_trials", "sampler", "pruner", "fixed")}
    return SweepResults(folder=folder, trials=[_record(row) for row in trials["trials"]], **known)


def write_trials(folder: Path, trials: Iterator[TrialRecord] | Sequence[TrialRecord]) -> None:
    """Writes trials.json."""
    write_json(folder / TRIALS_FILE, {"trials": [asdict(trial) for trial in trials]})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes strict JSON; an earlier file is replaced at once or not at all."""
    with replaced(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _record(row: dict[str, Any]) -> TrialRecord:
    return TrialRecord(**{**row, "reports": [(step, value) for step, value in row["reports"]]})


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.parent} is not the folder of a sweep: {path.name} is missing") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return content
