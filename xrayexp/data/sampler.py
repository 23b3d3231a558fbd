"""Which samples make up each effective batch, and the position in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from xrayexp.data.curriculum import Curriculum

MEGABATCH = 32  # effective batches among which samples of like length are brought together


class Draw(NamedTuple):
    """One sample of the training set, drawn at one place of the run: augmentation depends on both."""

    sample: int
    place: int  # draws of the run before this one


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


class EffectiveBatchSampler(Sampler[list[Draw]]):
    """Yields the draws of one effective batch after the other.

    Args:
        curriculum: the order of the samples.
        samples: number of training samples.
        batch_size: samples of one optimiser step, over all ranks; the last batch of an epoch may be smaller.
        cursor: the position, read whenever an epoch's iteration begins.
        lengths: of every sample in tokens, to bring samples of like length together; None not to.
        rank: of this process among those that train together.
        ranks: number of these processes. Each gets every `ranks`-th sample of every batch; where a batch does not
            divide evenly, the first ranks get one more.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        samples: int,
        batch_size: int,
        cursor: Cursor,
        *,
        lengths: Sequence[int] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.curriculum, self.samples, self.batch_size, self.cursor = curriculum, samples, batch_size, cursor
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.rank, self.ranks = rank, ranks
        self._planned: tuple[int, list[list[Draw]]] | None = None

    def plan(self, epoch: int) -> list[list[Draw]]:
        """All batches of one epoch, of all ranks."""
        if self._planned is None or self._planned[0] != epoch:
            first = epoch * self.samples
            draws = [Draw(index, first + place) for place, index in enumerate(self._order(epoch).tolist())]
            batches = [draws[start : start + self.batch_size] for start in range(0, self.samples, self.batch_size)]
            self._planned = epoch, batches
        return self._planned[1]

    def drawn(self, epoch: int, batches: int | None = None) -> np.ndarray:
        """The samples of the first batches of an epoch, in order; None for all of it."""
        order = self._order(epoch)
        return order if batches is None else order[: batches * self.batch_size]

    def _order(self, epoch: int) -> np.ndarray:
        order = self.curriculum.order(epoch)
        return order if self.lengths is None else self._by_length(order)

    def _by_length(self, order: np.ndarray) -> np.ndarray:
        """Sorts by length within each run of `MEGABATCH` batches: the order is kept but for these few batches."""
        assert self.lengths is not None
        size = MEGABATCH * self.batch_size
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        return np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in parts])

    def __iter__(self) -> Iterator[list[Draw]]:
        # Read now, not at the first next(): by then the cursor may have moved on.
        left = self.plan(self.cursor.epoch)[self.cursor.done :]
        return iter([batch[self.rank :: self.ranks] for batch in left])

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_size)
