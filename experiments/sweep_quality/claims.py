"""What the study compares and claims, computed from its rows."""

from __future__ import annotations

from statistics import median

import numpy as np

from experiments.curriculum.claims import CONFIDENCE, interval
from experiments.results import Claim, Rows, Values

TRIALS = 16
REFERENCE = "random"
# By name: title, option of search/sampler, whether the card's memory is a constraint.
ARMS = {
    REFERENCE: ("random draws, constrained", "random", True),
    "tpe": ("TPE, which knows nothing of the card", "tpe", False),
    "tpe_constrained": ("TPE, constrained", "tpe", True),
    "gp": ("Gaussian process, constrained", "gp", True),
}
CONSTRAINED = tuple(arm for arm, (_, _, constrained) in ARMS.items() if constrained)
SPACE_ROW = "space"

CPU_MINUTES = 90.0
EXCLUDED = (0.25, 0.42)  # "about a third"


def claims(rows: Rows) -> list[Claim]:
    """All claims; which sampler is best is none of them: `verdict` says what the intervals show."""
    sweeps = [values for arm in ARMS for values in of(rows, arm)]
    numbers = {len(counted(values)) for values in sweeps}
    unfit = [one for arm in CONSTRAINED for values in of(rows, arm) for one in launched(values) if one["excess"] > 0]
    share = rows[SPACE_ROW]["excluded"]
    return [
        Claim("CPU minutes of all sweeps", sum(values["cpu_seconds"] for values in rows.values()) / 60, CPU_MINUTES,
              "at most"),
        Claim("share of the settings that the card excludes", share, EXCLUDED[0], "at least"),
        Claim("the same share", share, EXCLUDED[1], "at most"),
        Claim("trials between the longest and the shortest sweep", max(numbers) - min(numbers), 0, "at most"),
        Claim("trials that a constrained sweep launched and that do not fit", len(unfit), 0, "at most"),
    ]  # fmt: skip


def of(rows: Rows, arm: str) -> list[Values]:
    """The sweeps of one arm, by seed."""
    found = [(int(key.rpartition("-")[2]), values) for key, values in rows.items() if key.rpartition("-")[0] == arm]
    return [values for _, values in sorted(found, key=lambda pair: pair[0])]


def counted(sweep: Values) -> list[Values]:
    """Its trials but for those that died, which were tried again."""
    return [one for one in sweep["trials"] if one["state"] != "failed"]


def launched(sweep: Values) -> list[Values]:
    """Those that were trained."""
    return [one for one in counted(sweep) if one["launched"]]


def best_so_far(sweep: Values) -> np.ndarray:
    """The best validation score that fits on the card after each trial, [trials]; 0 before there is one."""
    scores = [one["score"] if one["score"] is not None and one["excess"] <= 0 else 0.0 for one in counted(sweep)]
    return np.maximum.accumulate(np.array(scores))


def seconds_so_far(sweep: Values) -> np.ndarray:
    """CPU seconds of training after each trial, [trials]."""
    return np.cumsum([one["fit_cpu_seconds"] for one in counted(sweep)])


def saved(sweep: Values) -> float:
    """CPU seconds that the trials which were not launched would have taken, each the median of the others."""
    spared = len(counted(sweep)) - len(launched(sweep))
    return float(spared * median(one["fit_cpu_seconds"] for one in launched(sweep)))


def wasted(sweep: Values) -> float:
    """CPU seconds of trials that would not have fitted."""
    return float(sum(one["fit_cpu_seconds"] for one in launched(sweep) if one["excess"] > 0))


def summary(rows: Rows, arm: str, after: int = TRIALS) -> tuple[float, float, float]:
    """Best score after so many trials: the mean over the seeds and Student's interval of it."""
    low, mean, high = interval(np.array([best_so_far(one)[:after][-1:] for one in of(rows, arm)]))[:, 0]
    return float(mean), float(low), float(high)


def difference(rows: Rows, arm: str) -> tuple[float, float, float]:
    """Best score less that of random draws with the same seed: mean and Student's interval."""
    mine, others = (np.array([best_so_far(one)[-1] for one in of(rows, name)]) for name in (arm, REFERENCE))
    low, mean, high = interval((mine - others)[:, None])[:, 0]
    return float(mean), float(low), float(high)


def verdict(rows: Rows) -> str:
    """What the sweeps show, from the numbers alone."""
    better, worse = [], []
    for arm in ARMS:
        if arm != REFERENCE:
            _, low, high = difference(rows, arm)
            better += [ARMS[arm][0]] * (low > 0)
            worse += [ARMS[arm][0]] * (high < 0)
    told = [f"better than random draws: {', '.join(better)}"] * bool(better)
    told += [f"worse: {', '.join(worse)}"] * bool(worse)
    lead = "; ".join(told) or (
        f"After {TRIALS} trials no sampler is shown to find a better setting than random draws do"
    )
    spared = [saved(one) for arm in CONSTRAINED for one in of(rows, arm)]
    trained = [seconds_so_far(one)[-1] for arm in CONSTRAINED for one in of(rows, arm)]
    lost = [wasted(one) / seconds_so_far(one)[-1] for one in of(rows, "tpe")]
    return (
        f"**{lead}** ({CONFIDENCE:.0%} intervals of paired differences, {len(of(rows, REFERENCE))} seeds).\n\n"
        f"The constraint spared {sum(spared) / (sum(spared) + sum(trained)):.0%} of the training time that a "
        f"constrained sweep would have taken without it. The sweep that knew nothing of the card spent "
        f"{sum(lost) / len(lost):.0%} of its training time on settings that do not fit."
    )
