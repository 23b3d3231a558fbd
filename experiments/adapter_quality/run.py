"""Fine-tunes the embedded default with six adapters, five seeds each, at learning rates tuned on validation images.

python experiments/adapter_quality/run.py     one row after the other; goes on where it was cut off
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev

from experiments.adapter_quality.claims import ADAPTERS, REFERENCE, adapters, claims, paired_difference, scores, seeds
from experiments.adapter_quality.runs import compute
from experiments.embedded_default.run import QUICK
from experiments.embedded_default.runs import composed, digest
from experiments.results import Row, Rows, table
from experiments.study import Study, main

SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = 100  # none of those that are tested
STEPS = 300
GRID = (1 / 3, 1.0, 3.0)  # around the rate of the adapter's config


def plan(quick: bool) -> list[Row]:
    rows = []
    for adapter in ("lora", "vera") if quick else ADAPTERS:
        given = [f"adapter={adapter}", f"trainer.max_steps={STEPS}", f"trainer.validate_every={STEPS}"]
        given += QUICK if quick else []
        scale = composed("train", given).adapter.lr_scale
        config = digest(given)
        grid = [float(f"{scale * factor:.2g}") for factor in (GRID[:2] if quick else GRID)]

        shared = {"adapter": adapter, "config": config}
        tuning = {**shared, "overrides": [*given, f"seed={TUNING_SEED}"], "grid": grid}
        rows.append(Row(f"{adapter}-tuning", tuning))
        rows += [
            Row(f"{adapter}-{seed}", {**shared, "overrides": [*given, f"seed={seed}"], "grid_of_tuning": grid})
            for seed in (SEEDS[:2] if quick else SEEDS)
        ]
    return rows


def blocks(rows: Rows) -> dict[str, str]:
    return {"scores": _scores(rows), "tuning": _tuning(rows)}


def _scores(rows: Rows) -> str:
    head = ["adapter", "micro F1", "spread", "minus LoRA, 95 % interval", "exact match", "minus LoRA, 95 % interval",
            "lr scale", "trained", "CPU s of a fit"]  # fmt: skip
    lines = []
    for name in adapters(rows):
        runs = seeds(rows, name)
        fit = fmean(run["fit_cpu_seconds"] for run in runs)
        lines.append([
            ADAPTERS[name], f"{fmean(scores(rows, name)):.3f}", f"{stdev(scores(rows, name)):.3f}",
            _difference(rows, name, "micro_f1"), f"{fmean(scores(rows, name, 'exact_match')):.3f}",
            _difference(rows, name, "exact_match"), f"{rows[f'{name}-tuning']['chosen']:g}",
            f"{runs[0]['trainable_parameters']:,}", f"{fit:.0f}",
        ])  # fmt: skip
    return f"{table(head, lines)}\n\nTest phantoms; mean and standard deviation over {len(runs)} seeds."


def _difference(rows: Rows, adapter: str, score: str) -> str:
    if adapter == REFERENCE:
        return "-"
    mean, low, high = paired_difference(rows, adapter, score)
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _tuning(rows: Rows) -> str:
    lines = []
    for name in adapters(rows):
        found = rows[f"{name}-tuning"]
        tried = "; ".join(f"{scale}: {score:.3f}" for scale, score in found["scores"].items())
        lines.append([ADAPTERS[name], tried, f"{found['chosen']:g}"])
    return table(["adapter", "validation micro F1 by lr scale", "chosen"], lines)


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks, isolated=False)

if __name__ == "__main__":
    main(STUDY)
