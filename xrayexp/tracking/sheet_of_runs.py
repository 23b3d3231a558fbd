"""The sheet of any runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from xrayexp.errors import DataError
from xrayexp.search.importance import assumed_distributions, importance, is_number
from xrayexp.tracking.axis import axes_of
from xrayexp.tracking.choices import differing_values, in_words
from xrayexp.tracking.curves import logged_curves
from xrayexp.tracking.evaluated import short_names
from xrayexp.tracking.public import public_text
from xrayexp.tracking.record import FINISHED, current_state, read_record
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.sheet import FACTS, STEPS, Row, Sheet

UNKNOWN = "unknown"  # a state: of a run whose run.json is not there


def sheet_of_runs(runs: Sequence[RunFolder]) -> Sheet:
    """What their folders say. The metric is what the first run watched.

    Args:
        runs: at least one.

    Raises:
        DataError: a file in one of them cannot be read.
    """
    names = short_names([run.path for run in runs])
    configs: dict[str, Any] = {
        name: OmegaConf.to_container(run.config()) for name, run in zip(names, runs, strict=True)
    }
    metric = configs[names[0]]["trainer"]["monitor"]
    differing = differing_values(configs)
    choices = {name: {key: _choice(found[name]) for key, found in differing.items() if name in found} for name in names}
    rows = tuple(_row(run, name, metric, choices[name]) for name, run in zip(names, runs, strict=True))
    scored = [row for row in rows if row.ended_well and metric in row.values]
    given = [row.choices for row in scored]
    return Sheet(
        title=f"{len(rows)} runs",
        kind="run",
        objectives={metric: "maximize"},  # as the best checkpoint is chosen
        rows=rows,
        axes=axes_of(list(choices.values()), {}),
        importance=importance(given, assumed_distributions(given), [row.values[metric] for row in scored], "maximize"),
        warnings=tuple(_warnings(configs, metric)),
    )


def budget(run: RunFolder | None) -> dict[str, float]:
    """The GiB that a run was planned for; empty where it was not."""
    if run is None or not run.plan_file.exists():
        return {}
    return {"budget_gib": float(_json(run.plan_file)["budget_gib"])}


def _choice(value: Any) -> float | str:
    return value if is_number(value) else in_words(value)


def _row(run: RunFolder, name: str, metric: str, choices: Mapping[str, Any]) -> Row:
    recorded = run.record_file.exists()
    state = current_state(run) if recorded else UNKNOWN
    # Of a run that goes on the summary, if any, is that of a part.
    summary = _json(run.summary_file) if state in (FINISHED, UNKNOWN) and run.summary_file.exists() else {}
    curve = [(step, value) for step, value in logged_curves(run).get(metric, ()) if not math.isnan(value)]
    facts = {key: float(summary[key]) for key in FACTS if summary.get(key) is not None}
    if curve and not summary:
        facts[STEPS] = max(step for step, _ in curve)
    best = summary.get("best_score") if summary.get("monitor") == metric else None
    if best is None and curve:
        best = max(value for _, value in curve)
    return Row(
        name=name,
        state=state,
        choices=choices,
        values={} if best is None else {metric: float(best)},
        facts={**budget(run), **facts},
        curve=curve,
        path=str(run.path),
        reason=public_text(read_record(run).get("reason", "")) if recorded else "",
    )


def _warnings(configs: Mapping[str, Any], metric: str) -> Iterator[str]:
    others = [name for name, config in configs.items() if config["trainer"]["monitor"] != metric]
    if others:
        yield (
            f"the runs did not watch the same metric: {metric} is that of the first; of {', '.join(others)} its best "
            "value is shown, which chose no checkpoint there"
        )


def _json(file: Any) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    return content
