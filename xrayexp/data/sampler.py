"""The order of training samples, as a pure function of seed and epoch, and the position in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass
class Cursor:
    """Where training stands: `done` effective batches of epoch `epoch` have been trained on.

    It moves when the optimiser steps, never when a batch is fetched, so prefetching workers do not matter.
    """

    epoch: int = 0
    done: int = 0

    def advance(self, batches_per_epoch: int) -> None:
        """Counts one trained batch; after the last one of an epoch the next epoch begins."""
        self.done += 1
        if self.done >= batches_per_epoch:
            self.epoch, self.done = self.epoch + 1, 0


class EffectiveBatchSampler(Sampler[list[int]]):
    """Yields the sample numbers of one effective batch after the other, every sample once an epoch.

    Args:
        samples: number of training samples.
        batch_size: samples of one optimiser step; the last batch of an epoch may be smaller.
        seed: of the order.
        cursor: the position, read whenever an epoch's iteration begins.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, cursor: Cursor) -> None:
        self.samples, self.batch_size, self.seed, self.cursor = samples, batch_size, seed, cursor

    def plan(self, epoch: int) -> list[list[int]]:
        """All batches of one epoch; depends on nothing but the seed and the epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.samples).tolist()
        return [order[start : start + self.batch_size] for start in range(0, self.samples, self.batch_size)]

    def __iter__(self) -> Iterator[list[int]]:
        # Read now, not at the first next(): by then the cursor may have moved on.
        return iter(self.plan(self.cursor.epoch)[self.cursor.done :])

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_size)
