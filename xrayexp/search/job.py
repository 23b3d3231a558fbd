"""What the sweep and the process of one trial tell each other: which trial it is, that it lives, how it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from filelock import FileLock, Timeout

from xrayexp.errors import UserError
from xrayexp.search.results import write_json

VARIABLE = "XRAYEXP_TRIAL"  # of the environment: the job's, as JSON
TRIALS, LOCKS, OUTCOME = "trials", "locks", "outcome.json"
POLL = 0.5  # seconds between two looks at a lock that is waited for

Ending: TypeAlias = Literal["complete", "pruned", "out_of_memory", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended.

    Attributes:
        ending: which way.
        results: numbers by name, the objectives among them where it is complete.
        reason: why it is not complete, one line.
        excess_gib: of out_of_memory: by how much the budget was missed.
    """

    ending: Ending
    results: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    excess_gib: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, which every launcher can carry."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrialJob:
    """One trial, as its own process knows it.

    Attributes:
        sweep: the folder of the sweep, absolute.
        name: of the study.
        number: of the trial.
        storage: URL of the database; None for the journal.
        pruner: config of Optuna's pruner; None where nothing is reported.
        retry_of: the trial that died with these parameters; None for none.
    """

    sweep: str
    name: str
    number: int
    storage: str | None
    pruner: Mapping[str, Any] | None
    retry_of: int | None = None

    @classmethod
    def from_environment(cls) -> TrialJob | None:
        """That of this process; None outside of a sweep."""
        text = os.environ.get(VARIABLE)
        return None if text is None else cls.from_json(text)

    @classmethod
    def from_json(cls, text: str) -> TrialJob:
        """What `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """For the environment."""
        return json.dumps(asdict(self))

    @property
    def folder(self) -> Path:
        """Of the job."""
        return job_folder(Path(self.sweep), self.number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Shows other processes that this one works on the trial, also when the sweep that started it is gone.

        Raises:
            UserError: another process works on it, or it was given up while this one waited in a queue.
        """
        with _lock(Path(self.sweep), f"{self.number}.job", f"another process works on trial {self.number}"):
            if _given_up(Path(self.sweep), self.number).exists():
                raise UserError(f"trial {self.number} was given up before its job began")
            yield

    def write(self, outcome: Outcome) -> None:
        """Keeps the outcome for a sweep that is gone by now, and will be resumed."""
        write_json(self.folder / OUTCOME, outcome.to_json())


def job_folder(sweep: Path, number: int) -> Path:
    """The folder of one trial's job."""
    return sweep / TRIALS / str(number)


def read_outcome(sweep: Path, number: int) -> Outcome | None:
    """What a job left behind; None while there is nothing."""
    file = job_folder(sweep, number) / OUTCOME
    return Outcome(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def is_alive(sweep: Path, number: int) -> bool:
    """Whether a process works on a trial, that of the job or that of the sweep which waits for it."""
    try:
        for name in (str(number), f"{number}.job"):
            with FileLock(_lock_file(sweep, name), blocking=False):
                pass
    except Timeout:
        return True
    return False


def is_orphan(sweep: Path, number: int) -> bool:
    """Whether a trial's job goes on though the process that launched it is gone."""
    try:
        with FileLock(_lock_file(sweep, str(number)), blocking=False):
            return is_held(sweep, number)
    except Timeout:
        return False


def is_held(sweep: Path, number: int) -> bool:
    """Whether a trial's job runs."""
    try:
        with FileLock(_lock_file(sweep, f"{number}.job"), blocking=False):
            return False
    except Timeout:
        return True


def wait_for(sweep: Path, number: int) -> None:
    """Returns when a trial's job has ended."""
    with FileLock(_lock_file(sweep, f"{number}.job"), poll_interval=POLL):
        pass


def give_up(sweep: Path, number: int) -> bool:
    """Keeps a dead trial's job from beginning late, out of a queue; False when it has begun meanwhile."""
    try:
        with FileLock(_lock_file(sweep, f"{number}.job"), blocking=False):
            _given_up(sweep, number).touch()
    except Timeout:
        return False
    return True


def claim(sweep: Path, number: int) -> FileLock:
    """The lock of the process that takes a trial, held until it is released or the process is gone."""
    lock = FileLock(_lock_file(sweep, str(number)), blocking=False)
    lock.acquire()
    return lock


@contextmanager
def _lock(sweep: Path, name: str, message: str) -> Iterator[None]:
    lock = FileLock(_lock_file(sweep, name), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(message) from None
    try:
        yield
    finally:
        lock.release()


def _given_up(sweep: Path, number: int) -> Path:
    return sweep / LOCKS / f"{number}.given_up"


def _lock_file(sweep: Path, name: str) -> Path:
    (sweep / LOCKS).mkdir(parents=True, exist_ok=True)
    return sweep / LOCKS / name
