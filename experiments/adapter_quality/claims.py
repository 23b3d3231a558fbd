"""What the study claims, computed from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.stats import t

from experiments.results import Claim, Rows, Values

ADAPTERS = {"lora": "LoRA", "dora": "DoRA", "delora": "DeLoRA", "rslora": "rsLoRA", "vera": "VeRA", "miss": "MiSS"}
REFERENCE = "lora"
SCORE = "micro_f1"
CPU_MINUTES = 60.0
REFERENCE_SCORE = 0.8  # a study of adapters that have learnt nothing would compare noise
UNPARSEABLE = 0.05


def claims(rows: Rows) -> list[Claim]:
    """All claims; `rows` may hold any number of adapters, and at least two seeds of each."""
    minutes = sum(values["cpu_seconds"] for values in rows.values()) / 60
    reference = fmean(scores(rows, REFERENCE))
    worst = max(run["test"]["unparseable_rate"] for name in adapters(rows) for run in seeds(rows, name))
    return [
        Claim("CPU minutes of all runs, tuning included", minutes, CPU_MINUTES, "at most"),
        Claim(f"{ADAPTERS[REFERENCE]}, micro F1, mean over the seeds", reference, REFERENCE_SCORE, "at least"),
        Claim("unparseable reports, worst run of all adapters", worst, UNPARSEABLE, "at most"),
    ]


def adapters(rows: Rows) -> list[str]:
    """The adapters of the study that were tested."""
    return [name for name in ADAPTERS if seeds(rows, name)]


def seeds(rows: Rows, adapter: str) -> list[Values]:
    """The tested rows of one adapter, by seed."""
    return [values for key, values in rows.items() if key.startswith(f"{adapter}-") and "test" in values]


def scores(rows: Rows, adapter: str, score: str = SCORE) -> list[float]:
    """Test scores of one adapter, by seed."""
    return [run["test"][score] for run in seeds(rows, adapter)]


def paired_difference(rows: Rows, adapter: str, score: str = SCORE) -> tuple[float, float, float]:
    """Mean difference to the reference and its 95 % interval, by Student's t over the seeds.

    Both adapters of a pair see the same samples in the same order and are tested on the same images.
    """
    pairs = zip(scores(rows, adapter, score), scores(rows, REFERENCE, score), strict=True)
    return _interval([one - other for one, other in pairs])


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    mean = fmean(values)
    margin = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return mean, mean - margin, mean + margin
