"""One row of the study: the learning rates of an adapter tried on validation images, or one seed tested."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from time import process_time

from experiments.embedded_default.runs import composed
from experiments.results import Results, Row, Values
from experiments.study import RESULTS, Place

SCORES = ("micro_f1", "exact_match", "soft_match_jaccard", "unparseable_rate")


def compute(row: Row, place: Place) -> Values:
    """The values of a row; one that is tested reads the learning rate from the row that tuned it."""
    logging.basicConfig(format=f"{row.key} | %(message)s", force=True)
    logging.getLogger("xrayexp").setLevel(logging.INFO)
    given, adapter = row.settings["overrides"], row.settings["adapter"]
    if "grid" in row.settings:
        return _tuned(row, place, given)
    tuning = Results.read(place.out / RESULTS).values[f"{adapter}-tuning"]
    return _run([*given, f"adapter.lr_scale={tuning['chosen']}"], row.key, place, test=True)


def _tuned(row: Row, place: Place, given: Sequence[str]) -> Values:
    """The validation score of every learning rate, the best of them, and what all of it took."""
    scores, seconds = {}, 0.0
    for scale in row.settings["grid"]:
        found = _run([*given, f"adapter.lr_scale={scale}"], f"{row.key}-{scale:g}", place, test=False)
        scores[f"{scale:g}"] = found["validation"]
        seconds += found["cpu_seconds"]
    best = max(scores.values())
    chosen = min(float(scale) for scale, score in scores.items() if score == best)  # of equals the most careful one
    return {"scores": scores, "chosen": chosen, "cpu_seconds": seconds}


def _run(overrides: Sequence[str], name: str, place: Place, *, test: bool) -> Values:
    from xrayexp import pipeline

    folder = place.work / name
    shutil.rmtree(folder, ignore_errors=True)  # what a run left that was cut off
    cfg = composed("train", overrides)
    cfg.test = test
    cfg.paths.output_dir = str(folder)
    started = process_time()
    with redirect_stdout(io.StringIO()):
        summary = pipeline.train(cfg)
    values: Values = {
        "validation": summary.best_score,
        "trainable_parameters": summary.trainable_parameters,
        "fit_cpu_seconds": summary.fit_cpu_seconds,
        "cpu_seconds": process_time() - started,
    }
    if summary.evaluation is not None:
        estimates = summary.evaluation.metrics.estimates
        values["test"] = {score: estimates[score].to_json()["value"] for score in SCORES}
    return values
