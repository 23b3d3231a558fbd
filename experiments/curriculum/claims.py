"""What the study compares and claims, computed from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy import stats

from experiments.results import Claim, Rows, Values

REFERENCE = "none"
CURRICULA = {REFERENCE: "random order", "easy_to_hard": "easy to hard", "hard_first": "hard first", "paced": "paced"}
SORTED = ("easy_to_hard", "hard_first")
EPOCHS = 2

# Chosen before the study ran: how good the result is, and how good the adapter is on the way there.
END, WAY = "end", "way"
OUTCOMES = {END: "test micro F1", WAY: "mean validation micro F1"}
WHEN = {END: "at the end", WAY: "on the way"}
CONFIDENCE = 0.95

CPU_MINUTES = 60.0
BETTER = "better than a random order"
LEARNT = 0.85  # less than this, and the study would compare models that have learnt nothing


@dataclass(frozen=True)
class Difference:
    """A curriculum's score less that of a random order, paired by seed.

    Attributes:
        mean: over the seeds.
        low: of Student's 95 % interval of the mean.
        high: likewise.
        p: of the paired t-test, adjusted by Holm's method for all comparisons of the study.
    """

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    @property
    def shown(self) -> bool:
        """Whether the comparisons together leave 5 % of error for a difference like this."""
        return self.p < 1 - CONFIDENCE


def claims(rows: Rows) -> list[Claim]:
    """All claims; `rows` may hold any number of seeds. None says that a curriculum helps: `verdict` does, if so."""
    steps = [values["steps"] for values in rows.values()]
    ordered = [values for name in SORTED for values in of(rows, name)]
    return [
        Claim("CPU minutes of all runs", sum(values["cpu_seconds"] for values in rows.values()) / 60, CPU_MINUTES,
              "at most"),
        Claim("steps between the longest and the shortest run", max(steps) - min(steps), 0, "at most"),
        Claim("share of the images that a sorted run saw, at the least", min(v["seen_share"] for v in ordered), 1,
              "at least"),
        Claim("visits of one image in a sorted run, at the most", max(v["most_visits"] for v in ordered), EPOCHS,
              "at most"),
        Claim("share of the images that a paced run saw, at the least",
              min(values["seen_share"] for values in of(rows, "paced")), 1, "at least"),
        Claim("test micro F1 of a random order, mean of the seeds", summary(rows, REFERENCE, END)[0], LEARNT,
              "at least"),
    ]  # fmt: skip


def of(rows: Rows, curriculum: str) -> list[Values]:
    """The rows of one curriculum, by seed."""
    found = [(int(key.rpartition("-")[2]), values) for key, values in rows.items() if key.startswith(f"{curriculum}-")]
    return [values for _, values in sorted(found, key=lambda pair: pair[0])]


def outcomes(rows: Rows, curriculum: str, outcome: str) -> np.ndarray:
    """One outcome of one curriculum, [seeds]."""
    found = of(rows, curriculum)
    if outcome == END:
        return np.array([values["test"]["micro_f1"] for values in found])
    return np.array([fmean(values["validation"]["micro_f1"]) for values in found])


def summary(rows: Rows, curriculum: str, outcome: str) -> tuple[float, float, float]:
    """Mean over the seeds and Student's interval of it."""
    low, mean, high = interval(outcomes(rows, curriculum, outcome)[:, None])[:, 0]
    return float(mean), float(low), float(high)


def interval(values: np.ndarray) -> np.ndarray:
    """Of [seeds, points]: [3, points], the lower end of Student's interval, the mean, the upper end."""
    seeds, mean = len(values), values.mean(axis=0)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(seeds)
    return np.stack([mean - half, mean, mean + half])


def differences(rows: Rows) -> dict[tuple[str, str], Difference]:
    """Every curriculum's difference to a random order, by (curriculum, outcome)."""
    keys = [(name, outcome) for outcome in OUTCOMES for name in CURRICULA if name != REFERENCE]
    pairs = [outcomes(rows, name, outcome) - outcomes(rows, REFERENCE, outcome) for name, outcome in keys]
    adjusted = holm([_p(pair) for pair in pairs])
    found = {}
    for key, pair, p in zip(keys, pairs, adjusted, strict=True):
        low, mean, high = interval(pair[:, None])[:, 0]
        found[key] = Difference(float(mean), float(low), float(high), p)
    return found


def _p(differences: np.ndarray) -> float:
    """Of the two-sided paired t-test; 1 where nothing differs."""
    return float(stats.ttest_1samp(differences, 0).pvalue) if differences.any() else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """p values, adjusted so that all together keep their level: Holm (Scandinavian Journal of Statistics, 1979)."""
    order = np.argsort(values)
    scaled = np.asarray(values)[order] * (len(values) - np.arange(len(values)))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [float(p) for p in adjusted]


def verdict(rows: Rows) -> str:
    """What helps, in a sentence for each outcome, from the numbers alone."""
    found = differences(rows)
    heads, lines = [], []
    for outcome, when in WHEN.items():
        mine = {CURRICULA[name]: difference for (name, of), difference in found.items() if of == outcome}
        groups = {
            BETTER: [n for n, d in mine.items() if d.shown and d.mean > 0],
            "worse than a random order": [n for n, d in mine.items() if d.shown and d.mean < 0],
            "not to be told from it": [n for n, d in mine.items() if not d.shown],
        }
        heads.append(f"{when}: {' and '.join(groups[BETTER]) or 'no curriculum'}")
        told = [f"{what}: {', '.join(f'{n} ({mine[n]})' for n in names)}" for what, names in groups.items() if names]
        lines.append(f"- {OUTCOMES[outcome]}: {'; '.join(told)}.")
    return "\n".join([f"**What beats a random order {'; '.join(heads)}.**", "", *lines])
