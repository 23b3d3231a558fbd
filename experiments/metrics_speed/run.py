"""Scores as many report pairs as PadChest has images, with intervals, and measures time and memory.

python experiments/metrics_speed/run.py
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from experiments.results import Claim, Row, Rows, Values, table
from experiments.study import Place, Study, main

ROUNDS = 3
GIB = 2**30 if sys.platform == "darwin" else 2**20  # the unit of `ru_maxrss` in it
FULL = {"reports": 160_000, "resamples": 1000}
QUICK = {"reports": 400, "resamples": 20}
PATIENTS = {"PadChest's patients": 67_625 / 160_861, "a patient each": 1.0}  # of an image
BOUND = 20.0  # seconds


def plan(quick: bool) -> list[Row]:
    """Each row makes its reports anew and scores them once, in a process of its own."""
    size = QUICK if quick else FULL
    return [
        Row(f"{name}, round {number}", size | {"patients": round(size["reports"] * share), "seed": number})
        for name, share in PATIENTS.items()
        for number in range(1 if quick else ROUNDS)
    ]


def compute(row: Row, place: Place) -> Values:
    """Seconds and peak memory of one scoring with all structured metrics; the reports are there before."""
    from experiments.metrics_speed.reports import random_pairs
    from xrayexp.metrics.registry import metrics_of
    from xrayexp.metrics.scoring import score

    settings = row.settings
    reports = random_pairs(settings["reports"], settings["patients"], settings["seed"])
    metrics = metrics_of("structured")
    before = _memory()
    cpu, wall = time.process_time(), time.perf_counter()
    scores = score(reports, metrics, bootstrap=settings["resamples"])
    values = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return values | {
        "memory": _memory(),
        "memory_before": before,
        "load": os.getloadavg()[0],
        "values": len(scores.estimates),
        "findings": len(scores.findings),
        "micro_f1": scores.headline("micro_f1"),
    }


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB


def claims(rows: Rows) -> list[Claim]:
    """The least of the rounds for time, since whatever else a machine does only adds to it; the most for memory."""
    found = []
    for name in PATIENTS:
        rounds = [values for key, values in rows.items() if key.startswith(name)]
        found.append(Claim(f"seconds of one core, {name}", min(values["cpu"] for values in rounds), BOUND, "at most"))
    peak = max(values["memory"] for values in rows.values())
    return [*found, Claim("peak memory of the process, GiB", peak, 2, "at most")]


def blocks(rows: Rows) -> dict[str, str]:
    """Every round."""
    head = ["", "CPU s", "s by the clock", "load", "GiB", "GiB before scoring", "values", "findings"]
    lines = [
        [
            key,
            *(f"{values[name]:.1f}" for name in ("cpu", "wall", "load")),
            *(f"{values[name]:.2f}" for name in ("memory", "memory_before")),
            *(f"{values[name]}" for name in ("values", "findings")),
        ]
        for key, values in rows.items()
    ]
    return {"rounds": table(head, lines)}


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks)

if __name__ == "__main__":
    main(STUDY)
