"""Who works on which trial: exactly `n_trials` end well, none twice, whatever dies in between.

A trial counts when it is complete or pruned. One that is said to be running, but which no process holds, is dead: what
its job left behind is told, or its parameters are tried once more in a trial of its own.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from xrayexp.errors import ConfigError
from xrayexp.search import job
from xrayexp.search.job import Outcome
from xrayexp.search.results import COMPLETE, Direction
from xrayexp.search.storage import claim_lock, open_storage

if TYPE_CHECKING:
    from filelock import FileLock
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)

SamplerFactory: TypeAlias = "Callable[[int], BaseSampler]"

# Of a trial's user attributes.
OWNER, RETRY_OF, RETRIES, STOPPED = "owner", "retry_of", "retries", "stopped"
ENDING, RESULTS, REASON = "ending", "results", "reason"
MOST_RETRIES = 1


@dataclass(frozen=True)
class Claim:
    """A trial that this process alone works on.

    Attributes:
        trial: Optuna's.
        lock: held until the trial is told.
    """

    trial: Trial
    lock: FileLock

    @property
    def number(self) -> int:
        """Of the trial."""
        return self.trial.number

    @property
    def retry_of(self) -> int | None:
        """The dead trial whose parameters these are."""
        return self.trial.user_attrs.get(RETRY_OF)


class Claims:
    """The trials of one study, shared with every other process on it.

    Args:
        folder: of the sweep, whose locks say who lives.
        owner: the sweep's id: other folders' trials in the same database are left to their own processes.
        storage: URL of the database; None for the journal.
        name: of the study.
        objectives: by metric.
        n_trials: how many are to end complete or pruned.
        sampler: makes Optuna's from a seed.
        pruner: Optuna's.
        seed: of the sweep.

    Raises:
        ConfigError: the study has other objectives.
    """

    def __init__(
        self,
        folder: Path,
        owner: str,
        storage: str | None,
        name: str,
        objectives: Mapping[str, Direction],
        n_trials: int,
        sampler: SamplerFactory,
        pruner: BasePruner,
        seed: int,
    ) -> None:
        self.folder, self.owner, self.objectives, self.n_trials = folder, owner, objectives, n_trials
        self._storage, self._name, self._sampler, self._seed = storage, name, sampler, seed
        self.study = self._open(pruner)

    def claim(self) -> Claim | None:
        """The next trial; None when enough have ended or are being worked on."""
        from optuna.trial import TrialState

        with self.locked():
            self._settle_dead()
            trials = self.study.get_trials(deepcopy=False)
            counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
            if sum(trial.state in counted for trial in trials) >= self.n_trials:
                return None
            # A sampler of its own for every draw: a sweep draws the same whether it was cut off or not, and two
            # processes never draw alike. A retry draws nothing.
            draws = sum(RETRY_OF not in trial.user_attrs for trial in trials)
            self.study.sampler = self._sampler(_mixed(self._seed, draws))
            trial = self.study.ask()
            trial.set_user_attr(OWNER, self.owner)
            return Claim(trial, job.claim(self.folder, trial.number))

    def orphan(self) -> int | None:
        """A trial whose job goes on though the process that launched it is gone; None where there is none."""
        from optuna.trial import TrialState

        with self.locked():
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if trial.user_attrs.get(OWNER) == self.owner and job.is_orphan(self.folder, trial.number):
                    return trial.number
        return None

    def wait_for(self, number: int) -> None:
        """Returns when the job of a trial has ended; the next claim tells what it left behind."""
        job.wait_for(self.folder, number)

    def locked(self) -> AbstractContextManager[None]:
        """Keeps every other process from taking a trial."""
        return claim_lock(self._storage, self.folder, self._name)

    def tell(self, claim: Claim, outcome: Outcome) -> None:
        """Ends a trial."""
        try:
            self._tell(claim.trial, claim.number, outcome)
        finally:
            claim.lock.release()

    def tell_infeasible(self, claim: Claim) -> None:
        """Ends a trial that a constraint forbids: told as failed, samplers would learn nothing from it."""
        from optuna.trial import TrialState

        try:
            self.study.tell(claim.number, state=TrialState.PRUNED)
        finally:
            claim.lock.release()

    def leave(self, claim: Claim) -> None:
        """Gives up a trial because the sweep is stopped: it goes on when the sweep is resumed."""
        try:
            claim.trial.set_user_attr(STOPPED, True)
        finally:
            claim.lock.release()

    def _open(self, pruner: BasePruner) -> Study:
        import optuna
        from optuna.exceptions import ExperimentalWarning

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self.locked():  # two processes cannot make a database's tables at once
            storage = open_storage(self._storage, self.folder)
            study = optuna.create_study(
                storage=storage,
                study_name=self._name,
                directions=list(self.objectives.values()),
                pruner=pruner,
                load_if_exists=True,
            )
            if study.metric_names is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)  # since Optuna 3.2; dashboards show the names
                    study.set_metric_names(list(self.objectives))
        there = dict(zip(study.metric_names or [], (d.name.lower() for d in study.directions), strict=True))
        if there != dict(self.objectives):
            raise ConfigError(
                [f"the study {self._name} has the objectives {there}, not {dict(self.objectives)}: choose another "
                 "search.name"]
            )  # fmt: skip
        return study

    def _settle_dead(self) -> None:
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            owner = trial.user_attrs.get(OWNER)
            # Without an owner it died in the two lines of `claim` that this lock guards.
            if owner not in (None, self.owner) or job.is_alive(self.folder, trial.number):
                continue
            # Its process tells, and then lets the lock go: it may have done both since the list was read.
            if self.study._storage.get_trial(trial._trial_id).state != TrialState.RUNNING:
                continue
            left = job.read_outcome(self.folder, trial.number)
            if left is not None:
                self._tell(self._trial(trial), trial.number, left)
            elif job.give_up(self.folder, trial.number):
                self._retry(trial)

    def _trial(self, frozen: FrozenTrial) -> Trial:
        from optuna.trial import Trial

        return Trial(self.study, frozen._trial_id)

    def _retry(self, dead: FrozenTrial) -> None:
        from optuna.trial import TrialState

        retries = dead.user_attrs.get(RETRIES, 0) + (0 if dead.user_attrs.get(STOPPED) else 1)
        again = retries <= MOST_RETRIES and bool(dead.params)  # without any there is nothing to try again
        stopped = "stopped with the sweep" if dead.user_attrs.get(STOPPED) else "its process died"
        what = "tried again" if again else "given up after a retry" if dead.params else "nothing was drawn yet"
        self._trial(dead).set_user_attr(REASON, f"{stopped}; {what}")
        self.study.tell(dead.number, state=TrialState.FAIL)
        if again:
            # Of a chain of retries the first one's folder may be the only one with a checkpoint; each copies the last.
            self.study.enqueue_trial(dead.params, user_attrs={RETRY_OF: dead.number, RETRIES: retries})
            log.warning("trial %d: %s, its parameters are tried again", dead.number, stopped)

    def _tell(self, trial: Trial, number: int, outcome: Outcome) -> None:
        from optuna.trial import TrialState

        values = [outcome.results.get(metric, math.nan) for metric in self.objectives]
        missing = [metric for metric, value in zip(self.objectives, values, strict=True) if not math.isfinite(value)]
        ending, reason = outcome.ending, outcome.reason
        if ending == COMPLETE and missing:
            ending, reason = "failed", f"the job returned no finite {', '.join(missing)}"
        trial.set_user_attr(ENDING, ending)
        trial.set_user_attr(RESULTS, dict(outcome.results))
        if reason:
            trial.set_user_attr(REASON, reason)
        if ending == COMPLETE:
            self.study.tell(number, values)
        elif ending == "failed":
            self.study.tell(number, state=TrialState.FAIL)
        else:
            if ending == "out_of_memory":
                # At least a little: what does not fit is not feasible, however close it came.
                trial.set_constraint("out_of_memory_gib", max(outcome.excess_gib, 1e-3))
            self.study.tell(number, state=TrialState.PRUNED)


def _mixed(seed: int, number: int) -> int:
    """A seed of 32 bits in which neighbours have nothing in common."""
    return int.from_bytes(blake2b(f"{seed}/{number}".encode(), digest_size=4).digest(), "big")


def sampler_factory(config: Mapping[str, Any]) -> SamplerFactory:
    """Makes samplers from the config group search/sampler."""
    from hydra.utils import instantiate
    from optuna.exceptions import ExperimentalWarning

    def sampler(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # TPE's group=true and GP, for years now
            made: BaseSampler = instantiate(config, seed=seed, _convert_="all")
        return made

    return sampler
