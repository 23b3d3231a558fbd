"""A sweep as one W&B run beside those of its trials: all trials in a table, what they found in charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from xrayexp.search.results import COMPLETE, SweepResults, TrialRecord
from xrayexp.tracking.loggers import tracked
from xrayexp.tracking.public import public_text
from xrayexp.tracking.trial_context import SWEEP
from xrayexp.tracking.wandb_logger import WandbLogger

Cell = float | str | bool | None

COSTS = ("peak_memory_gib", "fit_seconds")  # what the metric is drawn against, beside further objectives
CONFIG_KEYS = ("project", "entity", "mode")


def log_sweep(results: SweepResults, wandb_config: Mapping[str, Any]) -> None:
    """Logs what a sweep has found; of a sweep that was resumed, into the same run.

    Everything lies in `<folder of the sweep>/wandb`. The run has the group of the trials' runs and the job type
    "sweep", and is ended whatever happens.

    Args:
        results: of the sweep, at its end.
        wandb_config: section `logger.wandb` of its trials, resolved.

    Raises:
        UserError: W&B cannot start the run.
    """
    name = public_text(results.name)
    logger = WandbLogger(
        results.folder,
        **{key: wandb_config[key] for key in CONFIG_KEYS},
        group=wandb_config["group"] or name,
        name=wandb_config["name"] or name,
        tags=[*wandb_config["tags"], SWEEP],
        job_type=SWEEP,
    )
    with tracked([logger], _about(results)):
        logger.experiment.log({"trials": _table(*trial_table(results)), **_charts(results)})
        logger.log_summary(summary(results), step=len(results.trials))


def trial_table(results: SweepResults) -> tuple[list[str], list[list[Cell]]]:
    """All trials, a row each.

    Returns:
        The columns: number, state, objectives, the config keys that were varied, other results, seconds, start and
        reason. Then the rows. A column has numbers, or texts, or truth values, and None where a trial has nothing.
    """
    front = {trial.number for trial in results.pareto()} if len(results.objectives) > 1 else None
    parts = [_parts(results, trial, front) for trial in results.trials]
    columns = list(dict.fromkeys(name for part in zip(*parts, strict=True) for row in part for name in row))
    rows = [{name: value for part in row for name, value in part.items()} for row in parts]
    cells = {name: _alike([row.get(name) for row in rows]) for name in columns}
    return columns, [[cells[name][index] for name in columns] for index in range(len(rows))]


def summary(results: SweepResults) -> dict[str, float | str]:
    """The sweep in a few numbers: trials by state, their time, and the best one with its choices."""
    states = Counter(trial.state for trial in results.trials)
    found: dict[str, float | str] = {f"trials/{state}": count for state, count in sorted(states.items())}
    found["trial_seconds"] = sum(_seconds(trial) or 0.0 for trial in results.trials)
    if (best := results.best()) is not None:
        found |= {"best/trial": best.number} | {f"best/{metric}": value for metric, value in best.values.items()}
        choices = {key.replace(".", "_"): _plain(value) for key, value in best.overrides.items()}
        found |= {f"best/{key}": value for key, value in choices.items() if value is not None}
    return found


def _about(results: SweepResults) -> dict[str, Any]:
    """The config of the sweep's run."""
    return {
        "sweep": public_text(results.name),
        "objectives": dict(results.objectives),
        "n_trials": results.n_trials,
        "sampler": results.sampler,
        "pruner": results.pruner,
        "fixed": list(results.fixed),
    }


def _parts(results: SweepResults, trial: TrialRecord, front: set[int] | None) -> tuple[dict[str, Any], ...]:
    """A row in parts: the columns of one part stand before those of the next, whichever trial they come from.

    Args:
        results: of the sweep.
        trial: of the row.
        front: numbers of the trials on the Pareto front; None where there is one objective.
    """
    objectives = {metric: trial.values.get(metric) for metric in results.objectives}
    others = {name: value for name, value in trial.results.items() if name not in objectives}
    pareto = {} if front is None else {"pareto": trial.number in front}
    end = {"seconds": _seconds(trial), "started": trial.started or None, "reason": trial.reason or None}
    return {"trial": trial.number, "state": trial.state, **objectives, **pareto}, dict(trial.overrides), others, end


def _alike(values: Sequence[Any]) -> list[Cell]:
    """The cells of a column: W&B refuses a column of numbers and texts."""
    plain = [_plain(value) for value in values]
    kinds = {_kind(value) for value in plain if value is not None}
    return plain if len(kinds) <= 1 else [value if value is None else str(value) for value in plain]


def _kind(value: Cell) -> str:
    return "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _plain(value: Any) -> Cell:
    """What a sweep varied as a cell: lists and sections of the config as text, and no text that tells too much."""
    return value if value is None or isinstance(value, bool | int | float) else public_text(str(value))


def _seconds(trial: TrialRecord) -> float | None:
    """Wall time of a trial; None while it runs."""
    if not trial.started or not trial.ended:
        return None
    return (datetime.fromisoformat(trial.ended) - datetime.fromisoformat(trial.started)).total_seconds()


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Any:
    import wandb

    return wandb.Table(columns=list(columns), data=list(rows))


def _charts(results: SweepResults) -> dict[str, Any]:
    """The best value so far by trial, and the first objective against what it costs; nothing before a trial is done."""
    import wandb

    metric, finished = results.metric, [trial for trial in results.in_state(COMPLETE) if trial.feasible]
    if not finished:
        return {}
    values = [trial.values[metric] for trial in finished]
    best = max if results.objectives[metric] == "maximize" else min
    so_far = [best(values[: done + 1]) for done in range(len(values))]
    trials = [trial.number for trial in finished]
    lines = wandb.plot.line_series(trials, [values, so_far], ["trial", "best so far"], f"{metric} by trial", "trial")
    charts = {"progress": lines}
    for cost in dict.fromkeys((*COSTS, *list(results.objectives)[1:])):
        found = [(trial, {**trial.results, **trial.values}) for trial in finished]
        points = [[trial.number, numbers[cost], numbers[metric]] for trial, numbers in found if cost in numbers]
        if points:
            table = _table(["trial", cost, metric], points)
            charts[f"against_{cost.replace('/', '_')}"] = wandb.plot.scatter(table, cost, metric, f"{metric} by {cost}")
    return charts
