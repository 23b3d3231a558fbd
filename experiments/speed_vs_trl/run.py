"""Trains the same model on the same images with this package and with TRL, in turns, and compares time and memory.

python experiments/speed_vs_trl/run.py     one row after the other: two at a time would disturb each other
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from experiments.results import Claim, Row, Rows, Values, table
from experiments.speed_vs_trl import ours, theirs
from experiments.speed_vs_trl.task import GEMMA_WORDS
from experiments.study import Place, Study, main

OURS, TRL, TRL32 = "this trainer", "TRL", "TRL in float32"
ARMS = {OURS: ours.measure, TRL: theirs.measure, TRL32: theirs.measure_float32}
TINY, GEMMA = "the tiny model's 640 words", f"{GEMMA_WORDS:,} words"
# The longer one is computed as model=medgemma15 does with a vocabulary of this length.
TASKS: dict[str, Values] = {
    TINY: {"words": None, "steps": 65, "unmeasured": 5, "batch": 8, "loss_chunk": None},
    GEMMA: {"words": GEMMA_WORDS, "steps": 5, "unmeasured": 2, "batch": 8, "loss_chunk": 256},
}
QUICK: dict[str, Values] = {
    TINY: {"words": None, "steps": 3, "unmeasured": 1, "batch": 2, "loss_chunk": None},
    GEMMA: {"words": 2_000, "steps": 2, "unmeasured": 1, "batch": 2, "loss_chunk": 16},
}
ROUNDS = {TINY: 5, GEMMA: 3}
BOUNDS = {TINY: 1.8, GEMMA: 5.0}
SAME_LOSS = 0.001


def plan(quick: bool) -> list[Row]:
    """Each row trains with every trainer once, in a process each; the first one differs from row to row."""
    return [
        Row(f"{name}, round {number}", {**task, "first": number, "task": name})
        for name, task in (QUICK if quick else TASKS).items()
        for number in range(1 if quick else ROUNDS[name])
    ]


def compute(row: Row, place: Place) -> Values:
    """What each trainer's training takes."""
    names = list(ARMS)
    found = {}
    for shift in range(len(names)):
        name = names[(row.settings["first"] + shift) % len(names)]
        # A process of its own: the peak of its memory is that of this training.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found[name] = process.submit(ARMS[name], row.settings, place.work / row.key).result()
    return {"task": row.settings["task"], "arms": {name: found[name] for name in names}}


def measured(rows: Rows, task: str, arm: str) -> list[Values]:
    return [values["arms"][arm] for values in rows.values() if values["task"] == task]


def speeds(rows: Rows, task: str, arm: str) -> list[float]:
    """Samples per CPU second, in every round."""
    return [values["images"] / values["cpu"] for values in measured(rows, task, arm)]


def times(rows: Rows, task: str, other: str) -> list[float]:
    """How many times as many samples as another trainer in the same round."""
    return [own / its for own, its in zip(speeds(rows, task, OURS), speeds(rows, task, other), strict=True)]


def memory_share(rows: Rows, task: str, other: str) -> float:
    """Median over the rounds of the peak beyond what was there before, over another trainer's."""
    pairs = zip(measured(rows, task, OURS), measured(rows, task, other), strict=True)
    return float(median(own["mib"] / its["mib"] for own, its in pairs))


def claims(rows: Rows) -> list[Claim]:
    """Against TRL as it is; in memory, and that the training is the same one, also against TRL in float32."""
    shares = [memory_share(rows, task, other) for task in TASKS for other in (TRL, TRL32)]
    losses = [(values["arms"][OURS]["loss"], values["arms"][TRL32]["loss"]) for values in rows.values()]
    return [
        *(
            Claim(f"samples per CPU second with {task}, times TRL's", median(times(rows, task, TRL)), bound, "at least")
            for task, bound in BOUNDS.items()
        ),
        Claim("peak memory of training as a share of TRL's, largest of all", max(shares), 1.0, "at most"),
        Claim("difference of the mean loss from TRL's in float32", max(abs(a - b) for a, b in losses), SAME_LOSS,
              "at most"),
    ]  # fmt: skip


def blocks(rows: Rows) -> dict[str, str]:
    lines = [
        [
            f"{task}, {arm}",
            _with_spread(speeds(rows, task, arm)),
            _number(median(v["images"] / v["wall"] for v in measured(rows, task, arm))),
            "" if arm == OURS else _with_spread(times(rows, task, arm)),
            _number(median(v["mib"] for v in measured(rows, task, arm))),
            f"{median(v['loss'] for v in measured(rows, task, arm)):.5f}",
        ]
        for task in TASKS
        for arm in ARMS
    ]
    head = ["vocabulary, trainer", "samples/CPU s", "samples/s", "this trainer's, times", "MiB", "mean loss"]
    versions = sorted({v["trl"] for v in measured(rows, TINY, TRL)})
    return {"speed": f"TRL {', '.join(versions)}; median of the rounds (lowest to highest).\n\n{table(head, lines)}"}


def _with_spread(values: list[float]) -> str:
    return f"{_number(median(values))} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks, requires=("trl",))

if __name__ == "__main__":
    main(STUDY)
