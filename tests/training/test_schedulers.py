"""Learning rates: up over the warm-up, down to the end, for every length of training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from xrayexp.errors import ConfigError
from xrayexp.training.schedulers import constant, cosine, one_cycle

Schedule = Callable[[Optimizer, int, float], LRScheduler]
SCHEDULES = [cosine, constant, one_cycle]
PEAK = 0.01

lengths = st.integers(1, 400)
shares = st.floats(0, 1, exclude_max=True)


def rates(schedule: Schedule, steps: int, warmup: float) -> list[float]:
    """The rate of every step, with the calls that training makes."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = schedule(optimizer, steps, warmup)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


@given(st.sampled_from(SCHEDULES), lengths, shares)
@example(cosine, 1, 0.6)
@example(constant, 1, 0.6)
@example(one_cycle, 1, 0.6)
@example(cosine, 2, 0.99)
def test_every_length_trains_and_never_above_the_rate(schedule: Schedule, steps: int, warmup: float) -> None:
    used = rates(schedule, steps, warmup)
    assert all(0 <= rate <= PEAK * (1 + 1e-9) for rate in used)
    assert max(used) > 0, "nothing would be trained"


@given(st.sampled_from(SCHEDULES), lengths, shares)
def test_up_and_then_never_up_again(schedule: Schedule, steps: int, warmup: float) -> None:
    used = rates(schedule, steps, warmup)
    top = used.index(max(used))
    assert used[: top + 1] == sorted(used[: top + 1])
    assert all(after <= before + 1e-12 for before, after in zip(used[top:], used[top + 1 :], strict=False))


def test_cosine() -> None:
    used = rates(cosine, 100, 0.05)
    assert used[5] == pytest.approx(PEAK)
    assert used[2] == pytest.approx(PEAK * 2 / 5)
    assert used[5 + 47] == pytest.approx(PEAK / 2, rel=0.03)  # half of the way down
    assert used[-1] < PEAK * 0.001


def test_constant() -> None:
    used = rates(constant, 100, 0.1)
    assert used[5] == pytest.approx(PEAK / 2)
    assert used[10:] == [PEAK] * 90


def test_one_cycle() -> None:
    used = rates(one_cycle, 100, 0.3)
    assert max(used) == pytest.approx(PEAK)
    assert used.index(max(used)) == pytest.approx(30, abs=1)
    assert used[0] == pytest.approx(PEAK / 25)
    assert used[-1] < PEAK * 0.001


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_warm_up(schedule: Schedule) -> None:
    assert rates(schedule, 50, 0.0)[1] > 0.9 * PEAK


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [-0.1, 1.0, 1.5, float("nan")])
def test_the_warm_up_is_a_share(schedule: Schedule, warmup: float) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.warmup"):
        rates(schedule, 10, warmup)
