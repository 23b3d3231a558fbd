"""Trains the embedded default with every curriculum, five seeds each, and compares each with a random order.

python experiments/curriculum/run.py     one row after the other; --jobs 2 for two at a time
"""

from __future__ import annotations

import csv
import io
import logging
import shutil
import time
from contextlib import redirect_stdout
from hashlib import sha256
from pathlib import Path

from experiments.curriculum.claims import CURRICULA, EPOCHS, OUTCOMES, claims, differences, of, summary, verdict
from experiments.embedded_default.run import BASE, QUICK
from experiments.embedded_default.runs import composed, digest
from experiments.results import Row, Rows, Values, table
from experiments.study import Place, Study, main

SEEDS = (0, 1, 2, 3, 4)
VALIDATED = {"micro_f1": "val/micro_f1", "exact_match": "val/exact_match"}
# Whole epochs of whole batches, so that a sorted order ends where it should, and no early end: all take equal steps.
# About half of the default's images, for 20 runs to fit into 60 CPU minutes.
RUN = (
    "data.max_images.train=3200",
    "trainer.max_steps=null",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.validate_every=40",
    "callbacks=none",
    "metrics.bootstrap=0",
)
BRIEFLY = [override for override in QUICK if "bootstrap" not in override and "max_steps" not in override]


def plan(quick: bool) -> list[Row]:
    base = sha256(BASE.read_bytes()).hexdigest()[:12] if BASE.exists() else None

    def row(name: str, seed: int) -> Row:
        given = [f"curriculum={name}", f"seed={seed}", *RUN, *(BRIEFLY if quick else ())]
        return Row(f"{name}-{seed}", {"overrides": given, "config": digest(given), "base": base})

    return [row(name, seed) for seed in (SEEDS[:2] if quick else SEEDS) for name in CURRICULA]


def compute(row: Row, place: Place) -> Values:
    """Trains and tests as the row's settings say."""
    from xrayexp.pipeline import train

    started = time.process_time()
    logging.basicConfig(format=f"{row.key} | %(message)s", force=True)
    logging.getLogger("xrayexp").setLevel(logging.INFO)
    folder = place.work / row.key
    shutil.rmtree(folder, ignore_errors=True)  # what a run left that was cut off
    cfg = composed("train", row.settings["overrides"])
    cfg.paths.output_dir = str(folder)
    with redirect_stdout(io.StringIO()):
        found = train(cfg)
    assert found.evaluation is not None, "test=true is the default of model=tiny"
    with (folder / "logs" / "metrics.csv").open(encoding="utf-8") as lines:
        logged = list(csv.DictReader(lines))
    validations = [line for line in logged if line["val/micro_f1"]]
    return {
        "steps": found.steps,
        "best_step": found.best_step,
        "validated": [int(line["step"]) for line in validations],
        "validation": {name: [float(line[column]) for line in validations] for name, column in VALIDATED.items()},
        "test": {name: found.evaluation.metrics.headline(name) for name in VALIDATED},
        **_visits(logged),
        "cpu_seconds": time.process_time() - started,
    }


def _visits(logged: list[dict[str, str]]) -> Values:
    """What the log says at last of the images that were seen; nothing of a random order."""
    seen = [line for line in logged if line.get("curriculum/seen_share")]
    return {n: float(seen[-1][f"curriculum/{n}"]) for n in ("seen_share", "most_visits")} if seen else {}


def blocks(rows: Rows) -> dict[str, str]:
    head = ["curriculum", *(f"{title}{more}" for title in OUTCOMES.values() for more in ("", ", difference")), "CPU s"]
    found = differences(rows)
    lines = []
    for name, title in CURRICULA.items():
        cells = []
        for outcome in OUTCOMES:
            mean, low, high = summary(rows, name, outcome)
            difference = found.get((name, outcome))
            told = "-" if difference is None else f"{difference}, p = {difference.p:.2g}"
            cells += [f"{mean:.3f} [{low:.3f}, {high:.3f}]", told]
        seconds = [values["cpu_seconds"] for values in of(rows, name)]
        lines.append([title, *cells, f"{sum(seconds) / len(seconds):.0f}"])
    return {"verdict": verdict(rows), "scores": table(head, lines)}


def draw(rows: Rows, out: Path) -> None:
    from experiments.curriculum import figures  # brings matplotlib

    figures.draw(rows, out / "curves.png")


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks, draw)

if __name__ == "__main__":
    main(STUDY)
