"""The loop of a sweep: claim a trial, draw its values, look at its constraints, launch it, tell how it ended."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from xrayexp.errors import UserError
from xrayexp.messages import explain
from xrayexp.search import best
from xrayexp.search.claims import Claim, Claims
from xrayexp.search.job import Outcome, TrialJob
from xrayexp.search.preflight import to_overrides
from xrayexp.search.records import trial_records
from xrayexp.search.results import COMPLETE, FAILED, SweepResults, TrialRecord, write_trials
from xrayexp.search.screen import Screen
from xrayexp.search.space import Space

log = logging.getLogger(__name__)

Constraint = Callable[[DictConfig], float]


class Launch(Protocol):
    """Runs one job to its end."""

    def __call__(self, overrides: Sequence[str], job: TrialJob) -> Outcome:
        """Its outcome.

        Args:
            overrides: of the trial.
            job: which trial it is.
        """
        ...


@dataclass(frozen=True)
class Work:
    """What a sweep does with each trial.

    Attributes:
        space: that it is drawn from.
        fixed: overrides of all trials, which their experiment file has as well.
        every_trial: further overrides of all trials, which it has not.
        constraints: by name; above 0 forbids.
        compose: makes a trial's config, as its job will have it.
        launch: runs it.
        loader: of configs.
        max_failures: failed trials in a row that end the loop.
        resume: the command that goes on with the sweep.
    """

    space: Space
    fixed: Sequence[str]
    every_trial: Sequence[str]
    constraints: Mapping[str, Constraint]
    compose: Callable[[Sequence[str]], DictConfig]
    launch: Launch
    loader: ConfigLoader
    max_failures: int
    resume: str


class Runner:
    """Works on the trials of a study until enough have ended.

    Args:
        claims: the study.
        about: the sweep, still without trials.
        job: what all its jobs have in common.
        work: what is done with each trial.
        screen: shows it.
    """

    def __init__(self, claims: Claims, about: SweepResults, job: TrialJob, work: Work, screen: Screen) -> None:
        self._claims, self._about, self._job, self._work, self._screen = claims, about, job, work, screen
        self._failures = 0
        self._written: int | None = None  # the best trial whose experiment file stands there

    def run(self) -> SweepResults:
        """Works until no trial is left to take.

        Raises:
            UserError: too many trials in a row failed.
        """
        self._screen.line(f"sweep folder: {self._about.folder}; to go on with it, or to join it: {self._work.resume}")
        with self._screen.shown():
            self._screen.update(self._publish())
            while (claim := self._next()) is not None:
                self._work_on(claim)
                results = self._publish()
                told = next(one for one in results.trials if one.number == claim.number)
                self._screen.told(results, told)
                self._count(told)
        results = self._publish()
        self._screen.summary(results, self._commands(results))
        return results

    def _next(self) -> Claim | None:
        """A trial to work on; None when all have ended, those too whose job has outlived the process it was for."""
        while (claim := self._claims.claim()) is None and (orphan := self._claims.orphan()) is not None:
            self._screen.line(f"trial {orphan}: its job goes on without the process that launched it; waiting for it")
            self._claims.wait_for(orphan)
            self._screen.update(self._publish())
        return claim

    def _commands(self, results: SweepResults) -> dict[str, str]:
        folder = self._about.folder
        train = {"train it": best.command(folder)} if results.best() is not None else {}
        return {**train, "compare": shlex.join(["xrayexp", "compare", str(folder)])}

    def _work_on(self, claim: Claim) -> None:
        """Ends one trial, or leaves it when the sweep is stopped."""
        try:
            outcome = self._outcome(claim)
        except BaseException:
            self._claims.leave(claim)
            log.warning("stopped; go on with: %s", self._work.resume)
            raise
        if outcome is None:
            self._claims.tell_infeasible(claim)
        else:
            self._claims.tell(claim, outcome)

    def _outcome(self, claim: Claim) -> Outcome | None:
        """None: a constraint forbids the trial."""
        overrides = [
            *self._work.fixed, *self._work.every_trial, *to_overrides(self._work.space.suggest(claim.trial))
        ]  # fmt: skip
        try:
            feasible = self._look_at_constraints(claim, overrides)
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            return Outcome("failed", reason=" ".join(message.split()))
        if not feasible:
            return None
        self._screen.update(self._publish())
        return self._work.launch(overrides, replace(self._job, number=claim.number, retry_of=claim.retry_of))

    def _look_at_constraints(self, claim: Claim, overrides: Sequence[str]) -> bool:
        if not self._work.constraints:
            return True
        cfg = self._work.compose(overrides)
        values = {name: float(constraint(cfg)) for name, constraint in self._work.constraints.items()}
        for name, value in values.items():
            claim.trial.set_constraint(name, value)
        broken = [f"{name} {value:+.2f}" for name, value in values.items() if value > 0]
        if broken:
            claim.trial.set_user_attr("reason", f"not launched: {', '.join(broken)}")
        return not broken

    def _count(self, told: TrialRecord) -> None:
        self._failures = self._failures + 1 if told.state == FAILED else 0
        if self._failures >= self._work.max_failures:
            raise UserError(
                f"{self._failures} trials in a row failed, the last one with: {told.reason or 'no message'} "
                f"(its log is in {self._about.folder / told.folder}). When that is mended, go on with: "
                f"{self._work.resume}"
            )

    def _publish(self) -> SweepResults:
        """Writes trials.json, and the experiment file of the best trial."""
        with self._claims.locked():
            trials = trial_records(self._claims.study, self._work.space, self._about.folder, self._claims.owner)
            write_trials(self._about.folder, trials)
        results = replace(self._about, trials=trials)
        found = results.best()
        if found is not None and found.number != self._written:
            self._write_best(results, found)
        return results

    def _write_best(self, results: SweepResults, trial: TrialRecord) -> None:
        assert trial.state == COMPLETE
        overrides = [*self._work.fixed, *to_overrides(self._work.space.assign(trial.params))]
        score = ", ".join(f"{metric} {value:.6g}" for metric, value in trial.values.items())
        title = f"Trial {trial.number} of the sweep {results.name}: {score}. {best.command(self._about.folder)}"
        best.write_experiment(best.experiment_file(self._about.folder), overrides, self._work.loader, title)
        self._written = trial.number


def resume_command(folder: Path) -> str:
    """What goes on with a sweep, or joins it."""
    return shlex.join(["python", "sweep.py", f"resume={folder}"])


def as_outcome(returned: Any, metrics: Sequence[str]) -> Outcome:
    """What a job returned, of whatever kind: our own trials', a number, or numbers by name."""
    match returned:
        case {"ending": _, "results": _}:
            return Outcome(**returned)
        case bool() | None:
            pass
        case int() | float() if len(metrics) == 1:
            return Outcome("complete", {metrics[0]: float(returned)})
        case Mapping() if all(isinstance(value, int | float) for value in returned.values()):
            return Outcome("complete", {str(name): float(value) for name, value in returned.items()})
    return Outcome("failed", reason=f"the job returned {returned!r}, not {', '.join(metrics)}")
