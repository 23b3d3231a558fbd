"""How a running job tells the study its validation metric, and hears whether it should go on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from xrayexp.search.job import TrialJob
from xrayexp.search.storage import open_storage


class Reporter:
    """One trial's line to the study, opened from the process of the job, wherever that runs.

    Args:
        job: the trial.
    """

    def __init__(self, job: TrialJob) -> None:
        import optuna
        from hydra.utils import instantiate

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner: Any = instantiate(job.pruner, _convert_="all")
        study = optuna.load_study(
            study_name=job.name,
            storage=open_storage(job.storage, Path(job.sweep)),
            sampler=optuna.samplers.RandomSampler(),  # nothing is drawn here
            pruner=pruner,
        )
        trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, job.number)
        self._trial = optuna.Trial(study, trial_id)

    def report(self, step: int, value: float) -> bool:
        """Reports the metric.

        Args:
            step: optimiser steps taken.
            value: of the first objective.

        Returns:
            Whether the trial should be pruned.
        """
        with warnings.catch_warnings():
            # What a trial that goes on from a checkpoint has reported before is the same number.
            warnings.filterwarnings("ignore", message=".*is already reported")
            self._trial.report(value, step)
        return self._trial.should_prune()
