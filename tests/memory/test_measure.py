"""What a step takes is its own: nothing that was there before it counts."""

from __future__ import annotations

import gc

import torch

from xrayexp.memory.measure import allocated_on_cpu


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self, numbers: int) -> None:
        self.itself, self.held = self, torch.empty(numbers)


def test_what_an_earlier_step_left_is_not_given_back_by_this_one() -> None:
    """The profiler remembers the blocks of earlier measurements: garbage of theirs would count as negative."""

    def step() -> None:
        first = torch.empty(250_000)
        gc.collect()
        second = torch.empty(500_000)
        del first, second

    gc.disable()
    try:
        assert allocated_on_cpu(lambda: Cycle(1_000_000)) == 4_000_000
        assert allocated_on_cpu(step) == 3_000_000
    finally:
        gc.enable()
