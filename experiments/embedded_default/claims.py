"""What the study claims, computed from its rows."""

from __future__ import annotations

from statistics import fmean

import numpy as np

from experiments.results import Claim, Rows, Values

ADAPTERS = {"lora": "LoRA", "dora": "DoRA"}
CONTROLS = {"rank-1": "rank 1", "random-base": "random base", "shuffled-labels": "shuffled labels"}
REFERENCE = "lora"  # whose worst seed every control is compared with

BOUNDS = {"soft_match": 0.95, "exact_match": 0.85}
FIT_CPU_SECONDS = 240.0
SOFT_MATCH_BEFORE = 0.05
CLEARLY = 0.01  # a control loses at least so much, with 97.5 % confidence

RESAMPLES = 10_000


def claims(rows: Rows) -> list[Claim]:
    """All claims; `rows` may hold any number of seeds."""
    found = [Claim("soft match before fine-tuning", score(rows["before"], "soft_match"), SOFT_MATCH_BEFORE, "at most")]
    for adapter, name in ADAPTERS.items():
        runs = seeds(rows, adapter)
        for metric, bound in BOUNDS.items():
            values = [score(run, metric) for run in runs]
            title = f"{name}, {title_of(metric)}"
            found.append(Claim(f"{title}, mean of {len(runs)} seeds", fmean(values), bound, "at least"))
            found.append(Claim(f"{title}, worst of {len(runs)} seeds", min(values), bound, "at least"))
    slowest = max(run["fit_cpu_seconds"] for run in seeds(rows, "lora"))
    found.append(Claim("LoRA, CPU seconds of the slowest fit", slowest, FIT_CPU_SECONDS, "at most"))
    for control, name in CONTROLS.items():
        for metric in BOUNDS:
            worst = min(seeds(rows, REFERENCE), key=lambda run: score(run, metric))
            low, _ = paired_difference(worst, rows[control], metric)
            found.append(Claim(f"{name}, {title_of(metric)} lost, at the least", low, CLEARLY, "at least"))
    return found


def seeds(rows: Rows, adapter: str) -> list[Values]:
    """The rows of one adapter, by seed."""
    return [values for key, values in rows.items() if key.startswith(f"{adapter}-")]


def score(values: Values, metric: str) -> float:
    """One metric of one row."""
    value: float = values["metrics"][metric]["value"]
    return value


def title(key: str) -> str:
    """A row's name for people."""
    adapter, _, seed = key.partition("-")
    return f"{ADAPTERS[adapter]}, seed {seed}" if adapter in ADAPTERS else CONTROLS.get(key, "base, no adapter")


def title_of(metric: str) -> str:
    """A metric's name in a sentence."""
    return metric.replace("_", " ")


def paired_difference(one: Values, other: Values, metric: str, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the mean difference between two rows on the same images, by the bootstrap over patients."""
    patients = _numbers(one["patients"])
    if one["patients"] != other["patients"]:
        raise ValueError("the rows were not scored on the same images")
    difference = _outcomes(one, metric) - _outcomes(other, metric)  # [images], each -1, 0 or 1
    sums, sizes = np.bincount(patients, weights=difference), np.bincount(patients)  # [patients]
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _numbers(text: str) -> np.ndarray:
    return np.array([int(number) for number in text.split()])


def _outcomes(values: Values, metric: str) -> np.ndarray:
    return np.array([int(outcome) for outcome in values["outcomes"][metric]])
