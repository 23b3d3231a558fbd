"""What a sweep did not compute: trials that a constraint ended before they began, and what pruned ones left undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from xrayexp.search.results import COMPLETE, INFEASIBLE, OUT_OF_MEMORY, PRUNED, SweepResults, TrialRecord


@dataclass(frozen=True, slots=True)
class Savings:
    """Estimated from the complete trials: the median of their seconds, CPU seconds and steps.

    Attributes:
        infeasible: trials that a constraint ended without a launch.
        pruned: trials that were ended on their validation metric.
        out_of_memory: trials that were launched and did not fit: what the constraint did not foresee.
        steps_taken: by the pruned ones.
        steps_left: by the pruned ones.
        infeasible_seconds: that the infeasible ones would have taken; None where no trial is complete.
        infeasible_cpu_seconds: the same in CPU time.
        pruned_seconds: that the steps left would have taken.
        pruned_cpu_seconds: the same in CPU time.
        spent_seconds: of all trials that were launched and say how long they took.
    """

    infeasible: int
    pruned: int
    out_of_memory: int
    steps_taken: int
    steps_left: int
    infeasible_seconds: float | None
    infeasible_cpu_seconds: float | None
    pruned_seconds: float | None
    pruned_cpu_seconds: float | None
    spent_seconds: float


def savings_of(sweep: SweepResults) -> Savings:
    """The savings of a sweep so far."""
    complete, pruned = sweep.in_state(COMPLETE), sweep.in_state(PRUNED)
    infeasible = len(sweep.in_state(INFEASIBLE))
    seconds, cpu, steps = (_typical(complete, name) for name in ("fit_seconds", "fit_cpu_seconds", "steps"))
    taken = [_steps(trial) for trial in pruned]
    left = sum(max(0, round(steps or 0) - one) for one in taken)
    return Savings(
        infeasible=infeasible,
        pruned=len(pruned),
        out_of_memory=len(sweep.in_state(OUT_OF_MEMORY)),
        steps_taken=sum(taken),
        steps_left=left,
        infeasible_seconds=None if seconds is None else infeasible * seconds,
        infeasible_cpu_seconds=None if cpu is None else infeasible * cpu,
        pruned_seconds=None if seconds is None or not steps else left * seconds / steps,
        pruned_cpu_seconds=None if cpu is None or not steps else left * cpu / steps,
        spent_seconds=sum(trial.results.get("fit_seconds", 0.0) for trial in sweep.trials),
    )


def _typical(trials: Sequence[TrialRecord], name: str) -> float | None:
    found = [trial.results[name] for trial in trials if name in trial.results]
    return median(found) if found else None


def _steps(trial: TrialRecord) -> int:
    """That a trial took: what it says, or else the step of its last report."""
    return round(trial.results.get("steps", max((step for step, _ in trial.reports), default=0)))
