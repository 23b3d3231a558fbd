"""Kills runs at random moments, resumes them, and compares them with runs that nothing disturbed.

python experiments/resume_exactness/run.py --jobs 2     all rows, two at a time
"""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

from experiments.results import Claim, Row, Rows, table
from experiments.resume_exactness.instruments import MOMENTS
from experiments.resume_exactness.runs import compute
from experiments.study import Study, main

STEPS = 24  # of two epochs: the run crosses the end of one
KILLS = 20


def plan(quick: bool) -> list[Row]:
    """Every combination of workers, accumulation, dropout and adapter; the kills are spread over them."""
    draw = random.Random(0)
    combinations = list(product(("lora", "dora"), (0.0, 0.1), (1, 4), (0, 2)))
    rows = []
    for number, (adapter, dropout, accumulation, workers) in enumerate(combinations[:1] if quick else combinations):
        kills = 1 if quick else KILLS // len(combinations) + (number < KILLS % len(combinations))
        rows.append(
            Row(
                f"{adapter}, dropout {dropout}, {accumulation} micro-batches, {workers} workers",
                {
                    "adapter": adapter, "dropout": dropout, "accumulation": accumulation, "workers": workers,
                    "steps": 4 if quick else STEPS,
                    "kills": [[draw.randint(1, 3 if quick else STEPS - 1), draw.choice(MOMENTS)] for _ in range(kills)],
                },
            )
        )  # fmt: skip
    return rows


def claims(rows: Rows) -> list[Claim]:
    """From the worst of all rows."""
    values = list(rows.values())
    return [
        Claim("kills", sum(row["killed"] for row in values), 1 if len(rows) == 1 else KILLS, "at least"),
        Claim("largest difference of a loss", max(row["loss_difference"] for row in values), 0.0, "at most"),
        Claim("largest difference of a final weight", max(row["weight_difference"] for row in values), 0.0, "at most"),
        Claim("steps on other images, lost or repeated", sum(row["wrong_steps"] for row in values), 0, "at most"),
        Claim("validation scores that differ", sum(row["wrong_validations"] for row in values), 0, "at most"),
    ]


def blocks(rows: Rows) -> dict[str, str]:
    head = ["run", "killed at", "steps taken again", "loss", "weights", "checkpoint", "time of one"]
    lines = [
        [
            key,
            ", ".join(f"{step} ({moment})" for step, moment in row["kills"]),
            f"{row['repeated']}",
            f"{row['loss_difference']:g}",
            f"{row['weight_difference']:g}",
            f"{row['bytes'] / 1e6:.2f} MB",
            f"{row['seconds'] * 1e3:.0f} ms",
        ]
        for key, row in rows.items()
    ]
    return {"kills": table(head, lines)}


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks)

if __name__ == "__main__":
    main(STUDY)
