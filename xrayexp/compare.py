"""`xrayexp compare`: runs on the same images, many runs or a sweep by their folders, as tables and as one page."""

from __future__ import annotations

import csv
import difflib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xrayexp.data.report import Report
from xrayexp.errors import ConfigError, DataError
from xrayexp.metrics.base import Metric
from xrayexp.metrics.comparison import Comparison, Difference, compare_runs
from xrayexp.metrics.confidence.calibration import reliability
from xrayexp.metrics.pairing import Paired, pair
from xrayexp.metrics.predictions import read_predictions
from xrayexp.metrics.registry import metrics_of
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.samples import ScoredReport
from xrayexp.pictures import pictures
from xrayexp.replacing import replaced
from xrayexp.resume import CHANGEABLE
from xrayexp.search.results import is_sweep, read_sweep
from xrayexp.tracking.choices import data_choices, differing_choices
from xrayexp.tracking.evaluated import Evaluated, evaluate_command, find_evaluated, runs_at
from xrayexp.tracking.page.comparison_page import write_comparison_page
from xrayexp.tracking.page.examples import shown_examples
from xrayexp.tracking.page.view import ShownRun, View
from xrayexp.tracking.sheet import Sheet
from xrayexp.tracking.sheet_of_runs import sheet_of_runs
from xrayexp.tracking.sheet_of_sweep import sheet_of_sweep
from xrayexp.tracking.sheet_table import sheet_csv

log = logging.getLogger(__name__)
PAGE, RUNS = "comparison.html", "runs.csv"
DIFFERENCES, CLASSES, CHANGES = "differences.csv", "classes.csv", "changes.csv"


@dataclass(frozen=True)
class CompareRequest:
    """What `xrayexp compare` is asked for.

    Attributes:
        runs: folders of runs or of evaluations, folders with runs below, a sweep's folder, or patterns.
        out: folder of the page and the tables.
        split: whose predictions are compared.
        reference: name or folder of the run that the others stand beside; None for the first.
        metrics: option of the config group `metrics`.
        metric: values to look at, such as micro_f1; empty for all.
        examples: how many are shown of each kind and run.
        resamples: of patients, behind every interval.
        draws: swaps behind every test.
        seed: of both.
        data_root: folder of the data set on this machine; None for the reference's.
    """

    runs: Sequence[str]
    out: Path
    split: str = "test"
    reference: str | None = None
    metrics: str = "structured"
    metric: Sequence[str] = ()
    examples: int = 8
    resamples: int = 1000
    draws: int = 10_000
    seed: int = 0
    data_root: str | None = None


@dataclass(frozen=True)
class Compared:
    """What was found; at least one of the two.

    Attributes:
        view: runs beside a reference, report by report; None where fewer than two have predictions.
        sheet: the runs by their folders alone; None where these are fewer than two, and no sweep.
    """

    view: View | None
    sheet: Sheet | None


def compare(request: CompareRequest) -> Compared:
    """Compares runs, and writes comparison.html, runs.csv, differences.csv, classes.csv and changes.csv.

    Raises:
        UserError: for whatever the user can fix: nothing to compare, no common image, an unknown metric.
    """
    # Whoever names a reference or a value of the reports means the reports.
    needed = request.reference is not None or bool(request.metric)
    evaluated = _reference_first(find_evaluated(request.runs, request.split, needed), request.reference)
    sheet = _sheet(request.runs)
    if len(evaluated) < 2 and (needed or sheet is None):
        found = f", not {evaluated[0].name} alone" if evaluated else ""
        raise DataError(f"compare takes at least two runs{found}")
    view = _beside_reference(evaluated, request) if len(evaluated) > 1 else None
    if sheet is not None:
        sheet = replace(sheet, about=(*sheet.about, *_unevaluated(sheet, view, evaluated, request.split)))
        _write_csv(request.out / RUNS, *sheet_csv(sheet))
    write_comparison_page(view, sheet, request.out / PAGE)
    for stale in (*((DIFFERENCES, CLASSES, CHANGES) if view is None else ()), *((RUNS,) if sheet is None else ())):
        (request.out / stale).unlink(missing_ok=True)  # of an earlier comparison, which is no longer on the page
    return Compared(view, sheet)


def _sheet(places: Sequence[str]) -> Sheet | None:
    if len(places) == 1 and is_sweep(Path(places[0])):
        sweep = read_sweep(Path(places[0]))
        if not sweep.trials:
            raise DataError(f"{places[0]}: the sweep has no trial yet")
        return sheet_of_sweep(sweep)
    runs = runs_at(places)
    return sheet_of_runs(runs) if len(runs) > 1 else None


def _unevaluated(sheet: Sheet, view: View | None, evaluated: Sequence[Evaluated], split: str) -> Iterator[str]:
    """How the reports of the best runs come to stand beside each other, too."""
    there = {one.run.path.resolve() for one in evaluated if one.run is not None}
    best = next((row for row in sheet.ranked() if row.path and Path(row.path).resolve() not in there), None)
    if best is None or (view is not None and sheet.kind == "trial"):
        return
    lacking = "Some runs have no" if view is not None else "Only one run has" if evaluated else "No run has"
    yield (
        f"{lacking} predictions on the {split} split, without which reports are not compared. Of the best ones, "
        f"{sheet.kind} {best.name} first: {evaluate_command(Path(best.path), split)}"
    )


def _beside_reference(evaluated: Sequence[Evaluated], request: CompareRequest) -> View:
    metrics = _metrics(request.metrics, request.metric)
    log.info("comparing %d runs with %s", len(evaluated) - 1, evaluated[0].name)
    paired = pair({one.name: read_predictions(one.predictions) for one in evaluated})
    comparison = compare_runs(
        paired,
        metrics,
        only=request.metric or None,
        training_shares=evaluated[0].training_shares(),
        resamples=request.resamples,
        draws=request.draws,
        seed=request.seed,
    )
    _write_tables(comparison, request.out)
    return _view(evaluated, paired, comparison, request)


def _metrics(option: str, names: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics of the option, as far as they have any of these values."""
    metrics = metrics_of(option)
    known = [definition.name for metric in metrics for definition in metric.definitions]
    known += [metric.name for metric in metrics if not metric.definitions]
    problems = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            instead = f"do you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            problems.append(f"metrics={option} has no value '{name}': {instead}")
    if problems:
        raise ConfigError(problems)
    return metrics


def _reference_first(evaluated: list[Evaluated], reference: str | None) -> list[Evaluated]:
    if reference is None:
        return evaluated
    place = Path(reference).resolve()
    for one in evaluated:
        if one.name == reference or place in (one.folder.resolve(), one.run.path.resolve() if one.run else None):
            return [one, *(other for other in evaluated if other is not one)]
    raise DataError(f"--reference {reference} is none of the runs: {', '.join(one.name for one in evaluated)}")


def _view(evaluated: Sequence[Evaluated], paired: Paired, comparison: Comparison, request: CompareRequest) -> View:
    choices = differing_choices({one.name: one.config() for one in evaluated})
    return View(
        comparison=comparison,
        runs=tuple(
            ShownRun(
                one.name, one.checkpoint, one.summary(), one.curves(), reliability(ReportSet(paired.reports[one.name]))
            )
            for one in evaluated
        ),
        choices=choices,
        warnings=tuple(_warnings(evaluated, choices)),
        split=request.split,
        pictures=pictures(evaluated[0].run, _example_images(comparison, request.examples), request.data_root),
        examples=request.examples,
    )


def _example_images(comparison: Comparison, most: int) -> list[str]:
    found = (
        change.reference.image_id
        for run in comparison.runs.values()
        for some in shown_examples(run.changes, most).values()
        for change in some
    )
    return list(dict.fromkeys(found))


def _warnings(evaluated: Sequence[Evaluated], choices: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """What makes a difference between runs something else than that of their settings."""
    if data := data_choices(choices, CHANGEABLE):
        yield f"the runs differ in their data ({', '.join(data)}): what they were trained on may make the difference"
    base = [key for key in choices if key.startswith(("model.", "quantization."))]
    if base:
        yield f"the runs differ in their base model ({', '.join(base)}), not in the adapter alone"
    named = [f"{one.name}: {one.checkpoint}" for one in evaluated if one.checkpoint]
    if len({one.checkpoint for one in evaluated if one.checkpoint}) > 1:
        yield f"different checkpoints are compared ({', '.join(named)})"
    if evaluated[0].training_shares() is None:
        yield "the reference does not say how frequent findings are in training: the bands go by the compared images"


def _write_tables(comparison: Comparison, folder: Path) -> None:
    numbers = ("reference_value", "value", "difference", "low", "high", "p", "p_holm", "effect")
    values = (
        (comparison.reference, name, key, comparison.definitions[key].direction, *_numbers(difference))
        for name, run in comparison.runs.items()
        for key, difference in run.values.items()
    )
    _write_csv(folder / DIFFERENCES, ("reference", "run", "metric", "better", *numbers), values)
    classes = (
        (comparison.reference, name, metric, one.name, one.support, *_numbers(one.f1))
        for name, run in comparison.runs.items()
        for metric, found in run.classes.items()
        for one in found
    )
    _write_csv(folder / CLASSES, ("reference", "run", "metric", "class", "true", *numbers), classes)
    changed = (
        (name, change.reference.image_id, change.turn, f"{change.gain:.4f}", _text(change.reference.truth),
         _said(change.reference), _said(change.other), change.reference.predicted_text, change.other.predicted_text)
        for name, run in comparison.runs.items()
        for change in run.changes.changed
    )  # fmt: skip
    heads = ("run", "image", "turn", "f1_gain", "truth", "reference_said", "said", "reference_text", "text")
    _write_csv(folder / CHANGES, heads, changed)


def _numbers(one: Difference) -> list[str]:
    numbers = (one.reference, one.other, one.difference, one.low, one.high, one.p, one.adjusted, one.effect)
    return ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]


def _said(report: ScoredReport) -> str:
    return "" if report.predicted is None else _text(report.predicted)


def _text(report: Report) -> str:
    lines = (f"{f.name} ({', '.join(f.locations)})" if f.locations else f.name for f in report.findings)
    return "; ".join(lines)


def _write_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with replaced(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        writer.writerows(rows)
