"""Sweeps the embedded default with four samplers, three seeds each, on a card that a third of the settings do not fit.

python experiments/sweep_quality/run.py     one sweep after the other; --jobs 2 for two at a time
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from statistics import fmean

from experiments.embedded_default.run import BASE
from experiments.embedded_default.runs import composed
from experiments.results import Row, Rows, Values, table
from experiments.study import ROOT, Place, Study, main
from experiments.sweep_quality.claims import (
    ARMS,
    REFERENCE,
    SPACE_ROW,
    TRIALS,
    claims,
    difference,
    launched,
    of,
    saved,
    seconds_so_far,
    summary,
    verdict,
)
from xrayexp.search.results import COMPLETE, INFEASIBLE, TrialRecord, read_sweep

SCORE = "val/micro_f1"
SEEDS = (0, 1, 2)
# The card: what the larger ranks of DoRA and DeLoRA are predicted to need is more.
BUDGET_GIB = 0.607
ADAPTERS, RANKS = ("lora", "dora", "delora"), (2, 4, 8, 16, 32, 64)
SPACE = (
    f"adapter={','.join(ADAPTERS)}",
    f"adapter.r={','.join(map(str, RANKS))}",
    "model.defaults.lr=tag(log, interval(1e-3, 2e-2))",
)
CONSTRAINT = "+search.constraints.memory_gib={_target_: xrayexp.trial.over_budget, _partial_: true}"
COMMON = (f"memory.budget_gib={BUDGET_GIB}", "callbacks=none")
BRIEFLY = ("trainer.max_steps=2", "trainer.validate_every=2", "data.source.patients=200",
           "data.max_images={train: 64, validation: 6, test: 16}")  # fmt: skip


def plan(quick: bool) -> list[Row]:
    base = sha256(BASE.read_bytes()).hexdigest()[:12] if BASE.exists() else None

    def row(arm: str, seed: int) -> Row:
        sampler, constrained = ARMS[arm][1:]
        given = [
            f"search/sampler={sampler}", f"search.seed={seed}", f"search.n_trials={2 if quick else TRIALS}", *COMMON,
            *SPACE, *([CONSTRAINT] if constrained else []), *(BRIEFLY if quick else ()),
        ]  # fmt: skip
        return Row(f"{arm}-{seed}", {"overrides": given, "base": base})

    space = Row(SPACE_ROW, {"adapters": list(ADAPTERS), "ranks": list(RANKS), "budget_gib": BUDGET_GIB})
    return [space, *(row(arm, seed) for seed in SEEDS[: 2 if quick else None] for arm in ARMS)]


def compute(row: Row, place: Place) -> Values:
    """Runs `python sweep.py` as a user would; of the row of the space: what the card excludes."""
    if row.key == SPACE_ROW:
        started = time.process_time()
        excess = [_excess(adapter, rank, place) for adapter in ADAPTERS for rank in RANKS]
        excluded = sum(one > 0 for one in excess) / len(excess)
        return {"excluded": excluded, "cpu_seconds": time.process_time() - started}
    folder = place.work / row.key
    shutil.rmtree(folder, ignore_errors=True)  # what a sweep left that was cut off
    # Plans are kept between the sweeps, as a user's cache would keep them.
    where = [f"hydra.sweep.dir={folder}", f"memory.cache_dir={place.work / 'cache'}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, str(ROOT / "sweep.py"), *row.settings["overrides"], *where],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = read_sweep(folder)
    return {
        "trials": [_trial(trial, place) for trial in found.trials],
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def _trial(trial: TrialRecord, place: Place) -> Values:
    settings = dict(trial.overrides)
    return {
        "state": trial.state,
        "settings": settings,
        "score": trial.values.get(SCORE) if trial.state == COMPLETE else None,
        "fit_cpu_seconds": trial.results.get("fit_cpu_seconds", 0.0),
        "excess": _excess(settings["adapter"], settings["adapter.r"], place),
        "launched": trial.state != INFEASIBLE,
    }


def _excess(adapter: str, rank: int, place: Place) -> float:
    """GiB that a setting is predicted to need beyond the card; its learning rate makes no difference."""
    from xrayexp.trial import over_budget

    given = [f"adapter={adapter}", f"adapter.r={rank}", *COMMON, f"memory.cache_dir={place.work / 'cache'}"]
    cfg = composed("train", given)
    cfg.paths.output_dir = str(place.work)
    return over_budget(cfg)


def blocks(rows: Rows) -> dict[str, str]:
    head = ["sweep", "best score", "difference to random", "after half", "launched", "CPU s of training", "spared"]
    lines = []
    for arm, (title, _, _) in ARMS.items():
        sweeps = of(rows, arm)
        mean, low, high = summary(rows, arm)
        apart = "-" if arm == REFERENCE else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference(rows, arm))
        lines.append([
            title, f"{mean:.3f} [{low:.3f}, {high:.3f}]", apart, f"{summary(rows, arm, TRIALS // 2)[0]:.3f}",
            f"{fmean(len(launched(one)) for one in sweeps):.1f}",
            f"{fmean(seconds_so_far(one)[-1] for one in sweeps):.0f}", f"{fmean(saved(one) for one in sweeps):.0f}",
        ])  # fmt: skip
    return {"verdict": verdict(rows), "scores": table(head, lines)}


def draw(rows: Rows, out: Path) -> None:
    from experiments.sweep_quality import figures  # brings matplotlib

    figures.draw(rows, out / "sweeps.png")


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks, draw)

if __name__ == "__main__":
    main(STUDY)
