"""Trains with and without checkpoints, logs and callbacks, in turns, and compares the CPU time.

python experiments/tracking_cost/run.py     one row after the other: two at a time would disturb each other
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from experiments.embedded_default.runs import composed
from experiments.results import Claim, Row, Rows, Values, table
from experiments.study import Place, Study, main

BARE = (
    "callbacks=none",
    "logger=none",
    "trainer.checkpoint_every=null",
    "trainer.checkpoint_minutes=null",
)
ARMS = {"bare": BARE, "default": (), "with W&B": ("logger=[csv,wandb]", "logger.wandb.mode=offline")}
STEPS, PAIRS = 250, 5
BOUND = 0.05


def plan(quick: bool) -> list[Row]:
    """Each row runs every arm once; the first arm differs from row to row."""
    return [
        Row(f"round {number}", {"steps": 3 if quick else STEPS, "first": number})
        for number in range(1 if quick else PAIRS)
    ]


def compute(row: Row, place: Place) -> Values:
    """CPU seconds of training by arm."""
    from xrayexp.pipeline import train

    names = list(ARMS)
    values = {}
    for shift in range(len(names)):
        name = names[(row.settings["first"] + shift) % len(names)]
        steps = row.settings["steps"]
        cfg = composed("train", [*ARMS[name], f"trainer.max_steps={steps}", "test=false", "data.max_images.train=2000"])
        cfg.trainer.validate_every = steps
        cfg.paths.output_dir = str(place.work / row.key / name)
        summary = train(cfg)
        values[name] = {"cpu": summary.fit_cpu_seconds, "wall": summary.fit_seconds}
    return values


def overhead(rows: Rows, arm: str, clock: str) -> float:
    """Median over the rounds of what an arm takes beyond the bare one."""
    return float(median(values[arm][clock] / values["bare"][clock] - 1 for values in rows.values()))


def claims(rows: Rows) -> list[Claim]:
    """At the default settings; W&B is shown beside them."""
    found = overhead(rows, "default", "cpu")
    return [Claim("CPU time for checkpoints, logs and callbacks, share of training", found, BOUND, "at most")]


def blocks(rows: Rows) -> dict[str, str]:
    lines = [[key, *(f"{values[arm]['cpu']:.1f}" for arm in ARMS)] for key, values in rows.items()]
    shares = [f"{overhead(rows, arm, 'cpu'):+.1%} CPU, {overhead(rows, arm, 'wall'):+.1%} wall" for arm in ARMS]
    lines.append(["median beyond bare", *shares])
    return {"cost": table(["CPU seconds", *ARMS], lines)}


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks)

if __name__ == "__main__":
    main(STUDY)
