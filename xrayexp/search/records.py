"""From Optuna's trials to the records of trials.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.distributions import distribution_to_json

from xrayexp.search.claims import ENDING, OWNER, REASON, RESULTS, RETRY_OF
from xrayexp.search.job import job_folder
from xrayexp.search.results import COMPLETE, FAILED, INFEASIBLE, RUNNING, State, TrialRecord
from xrayexp.search.space import Space, Value

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


def trial_records(study: Study, space: Space, folder: Path, owner: str) -> list[TrialRecord]:
    """All trials that have begun, by number.

    Args:
        study: Optuna's.
        space: that the parameters were drawn from; of trials that do not fit into it no overrides are known.
        folder: of the sweep.
        owner: the sweep's id; jobs of others lie elsewhere.
    """
    metrics = study.metric_names or []
    return [
        _record(trial, metrics, space, folder, owner)
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name != "WAITING"
    ]


def _record(trial: FrozenTrial, metrics: list[str], space: Space, folder: Path, owner: str) -> TrialRecord:
    values = trial.values or []
    job = job_folder(folder, trial.number)
    here = trial.user_attrs.get(OWNER) == owner and job.is_dir()
    return TrialRecord(
        number=trial.number,
        state=_state(trial),
        params=dict(trial.params),
        overrides=_overrides(trial, space),
        distributions={name: distribution_to_json(one) for name, one in trial.distributions.items()},
        values=_finite(dict(zip(metrics, values, strict=False))),
        results=_finite(trial.user_attrs.get(RESULTS, {})),
        constraints=dict(trial.constraints),
        reports=[(step, value) for step, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)],
        started=_time(trial.datetime_start),
        ended=_time(trial.datetime_complete),
        folder=job.relative_to(folder).as_posix() if here else "",
        reason=trial.user_attrs.get(REASON, ""),
        retry_of=trial.user_attrs.get(RETRY_OF),
    )


def _state(trial: FrozenTrial) -> State:
    match trial.state.name:
        case "COMPLETE":
            return COMPLETE
        case "PRUNED":
            # Without a word on its ending it was told before it was launched.
            ending: State = trial.user_attrs.get(ENDING, INFEASIBLE)
            return ending
        case "FAIL":
            return FAILED
        case _:
            return RUNNING


def _overrides(trial: FrozenTrial, space: Space) -> dict[str, Value]:
    try:
        return dict(space.assign(trial.params).values)
    except KeyError:  # died before all were drawn, or drawn from an earlier version of the space
        return {}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _time(moment: object) -> str:
    return moment.astimezone().isoformat(timespec="milliseconds") if isinstance(moment, datetime) else ""
