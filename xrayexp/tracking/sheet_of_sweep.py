"""The sheet of a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from xrayexp.search.importance import importance
from xrayexp.search.results import COMPLETE, SweepResults, TrialRecord
from xrayexp.tracking.axis import axes_of, is_log
from xrayexp.tracking.curves import logged_curves
from xrayexp.tracking.public import public_config, public_text
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.savings import savings_of
from xrayexp.tracking.sheet import Row, Sheet
from xrayexp.tracking.sheet_of_runs import budget


def sheet_of_sweep(sweep: SweepResults) -> Sheet:
    """What its files say, and the logs of the jobs whose folders are here."""
    rows = tuple(_row(trial, sweep) for trial in sweep.trials)
    logs: dict[str, bool] = {}
    for trial in sweep.trials:
        for name, distribution in trial.distributions.items():
            log = is_log(distribution)
            if log is not None:
                logs[config_key(name)] = logs.get(config_key(name), False) or log
    scored = [trial for trial in sweep.in_state(COMPLETE) if sweep.metric in trial.values]
    return Sheet(
        title=f"Sweep {public_text(sweep.name)}",
        kind="trial",
        objectives=sweep.objectives,
        rows=rows,
        axes=axes_of([row.choices for row in rows], logs),
        importance=importance(
            [trial.params for trial in scored],
            [trial.distributions for trial in scored],
            [trial.values[sweep.metric] for trial in scored],
            sweep.objectives[sweep.metric],
        ),
        about=tuple(_about(sweep)),
        savings=savings_of(sweep),
        branching=tuple(dict.fromkeys(key for trial in sweep.trials for key in _conditions(trial.params))),
    )


def config_key(name: str) -> str:
    """The config key of a parameter's name in the study: "adapter.r" of "adapter=lora/adapter.r"."""
    return name.rpartition("=")[2].partition("/")[2] if "=" in name else name


def readable(name: str) -> str:
    """A parameter's name in the study for people: "adapter.r where adapter=lora"."""
    key = config_key(name)
    return name if key == name else f"{key} where {name.removesuffix(f'/{key}').replace('/', ', ')}"


def _conditions(params: Mapping[str, Any]) -> Iterator[str]:
    """The choices that others hang on, by config key."""
    for name in params:
        if "=" in name:
            yield config_key(name.rpartition("=")[0])


def _row(trial: TrialRecord, sweep: SweepResults) -> Row:
    run = RunFolder(sweep.folder / trial.folder) if trial.folder else None
    logged = logged_curves(run).get(sweep.metric, []) if run else []
    return Row(
        name=str(trial.number),
        state=trial.state,
        choices=public_config({config_key(name): value for name, value in trial.params.items()}),
        values=trial.values,
        facts={**budget(run), **trial.results},
        curve=logged or trial.reports,
        feasible=trial.feasible,
        path=str(run.path) if run else "",
        reason=public_text(_reason(trial)),
    )


def _reason(trial: TrialRecord) -> str:
    again = f"again what trial {trial.retry_of} was to do" if trial.retry_of is not None else ""
    return "; ".join(filter(None, (trial.reason, again)))


def _about(sweep: SweepResults) -> Iterator[str]:
    counts = Counter(trial.state for trial in sweep.trials)
    states = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items())
    yield f"{len(sweep.trials):,} trials ({states}); {sweep.n_trials:,} are to end complete, pruned or infeasible."
    yield f"Sampler: {sweep.sampler}. Pruner: {sweep.pruner}."
    if sweep.fixed:
        yield f"The same in all: {' '.join(map(public_text, sweep.fixed))}."
