"""In which order the training examples are seen.

A curriculum is a pure function: the order of an epoch depends on nothing but the difficulties, the seed and the
epoch. So the position in it is two numbers, and a resumed run goes on with the very next example.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xrayexp.data.difficulty import DifficultySection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Order = NDArray[np.int64]

NONE, EASY_TO_HARD, HARD_FIRST, PACED = "none", "easy_to_hard", "hard_first", "paced"
ORDERS = (NONE, EASY_TO_HARD, HARD_FIRST, PACED)

# Competence functions: the share of the examples, the easiest first, that is open after a share `t` of the pacing.
# Platanios et al., Competence-based Curriculum Learning (NAACL 2019), equations 6 (linear) and 7 (root); in steps
# of a quarter, Bengio et al., Curriculum Learning (ICML 2009).
COMPETENCE: dict[str, Callable[[float, float], float]] = {
    "linear": lambda t, start: start + (1 - start) * t,
    "root": lambda t, start: math.sqrt(start**2 + (1 - start**2) * t),
    "step": lambda t, start: start + (1 - start) * math.floor(4 * t) / 4,
}


@dataclass
class PaceSection:
    """`curriculum.pace`: see `Paced`."""

    competence: str
    start: float
    full_at: float
    review: float


@dataclass
class CurriculumSection:
    """`curriculum`: the order of the training examples.

    Attributes:
        name: short name, for tables.
        order: one of `ORDERS`.
        difficulty: the weights of an example's difficulty.
        pace: how the examples are opened; for `paced` alone.
        group_by_length: put samples of like length into one effective batch, which saves padding.
    """

    name: str
    order: str
    difficulty: DifficultySection
    pace: PaceSection | None
    group_by_length: bool

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = self.difficulty.problems()
        if self.order not in ORDERS:
            found.append(f"curriculum.order must be one of {', '.join(ORDERS)}, not '{self.order}'")
        if (self.order == PACED) != (self.pace is not None):
            found.append("curriculum.pace belongs to curriculum.order=paced, which needs it")
        if self.pace is not None:
            if self.pace.competence not in COMPETENCE:
                known = ", ".join(COMPETENCE)
                found.append(f"curriculum.pace.competence must be one of {known}, not '{self.pace.competence}'")
            for key, value in (("start", self.pace.start), ("full_at", self.pace.full_at)):
                if not 0 < value <= 1:
                    found.append(f"curriculum.pace.{key} must be above 0 and at most 1, not {value:g}")
            if not 0 <= self.pace.review < 1:
                found.append(f"curriculum.pace.review must be at least 0 and below 1, not {self.pace.review:g}")
        return found


class Curriculum(Protocol):
    """The order of the training examples."""

    def order(self, epoch: int) -> Order:
        """The numbers of the examples of one epoch, in order; every epoch has as many as there are examples."""
        ...

    def open_share(self, drawn: int) -> float:
        """The share of the examples that may be drawn when `drawn` were drawn before."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """Every example once an epoch, in random order."""

    examples: int
    seed: int

    def order(self, epoch: int) -> Order:
        return np.random.default_rng([self.seed, epoch]).permutation(self.examples)

    def open_share(self, drawn: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Sorted:
    """Every example once an epoch, by difficulty; those of one difficulty in another order each epoch."""

    difficulty: NDArray[np.float64]
    seed: int
    hard_first: bool

    def order(self, epoch: int) -> Order:
        shuffled = np.random.default_rng([self.seed, epoch]).permutation(len(self.difficulty))
        key = -self.difficulty if self.hard_first else self.difficulty
        return shuffled[np.argsort(key[shuffled], kind="stable")]

    def open_share(self, drawn: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Paced:
    """Draws from the easiest examples, whose share grows until all are open.

    What was opened is drawn in rounds, each open example once a round, newly opened ones first; a share `review` of
    the draws is random among everything open, so that easy examples stay mixed in. When as many draws are left as
    examples that were never drawn, only those are drawn, the easiest share still first: so every example is seen by
    the end of the run, if the run has at least as many draws as examples, and none twice, if it has fewer.

    Args:
        difficulty: [examples].
        seed: of the order.
        draws: of the whole run.
        competence: a name of `COMPETENCE`.
        start: the share that is open at the beginning.
        full_at: the share of the run after which everything is open.
        review: the share of the draws that is random among everything open.
    """

    difficulty: NDArray[np.float64]
    seed: int
    draws: int
    competence: str
    start: float
    full_at: float
    review: float

    def order(self, epoch: int) -> Order:
        size = len(self.difficulty)
        order = self._run[epoch * size : (epoch + 1) * size]
        # The last epoch is cut where the run ends; whoever asks for the rest goes on in random order.
        rest = np.random.default_rng([self.seed, epoch]).permutation(size)[len(order) :]
        return np.concatenate([order, rest])

    def open_share(self, drawn: int) -> float:
        progress = min(1.0, drawn / (self.full_at * self.draws))
        return min(1.0, COMPETENCE[self.competence](progress, self.start))

    @cached_property
    def _run(self) -> Order:
        """Every draw of the run."""
        rng = np.random.default_rng([self.seed, 0])
        size = len(self.difficulty)
        shuffled = rng.permutation(size)  # ties open in random order
        by_difficulty = shuffled[np.argsort(self.difficulty[shuffled], kind="stable")]
        opened, waiting = 0, list[int]()  # drawn from its end
        unseen = np.ones(size, dtype=bool)
        never_drawn, run = size, np.empty(self.draws, dtype=np.int64)
        reviews = rng.random(self.draws) < self.review
        for draw in range(self.draws):
            # As many examples were never drawn as draws are left: from now on no example is drawn twice.
            hurry = never_drawn >= self.draws - draw
            now_open = max(1, math.ceil(self.open_share(draw) * size - 1e-9))
            if hurry:  # one that was never drawn has to be open
                now_open = max(now_open, size - never_drawn + 1)
            if now_open > opened:
                waiting.extend(rng.permutation(by_difficulty[opened:now_open]).tolist())
                opened = now_open
            if reviews[draw] and not hurry:
                chosen = int(by_difficulty[rng.integers(opened)])
            else:
                waiting = waiting or rng.permutation(by_difficulty[:opened]).tolist()
                chosen = waiting.pop()
                while hurry and not unseen[chosen]:
                    chosen = waiting.pop()
            never_drawn -= int(unseen[chosen])
            unseen[chosen] = False
            run[draw] = chosen
        return run


def make_curriculum(section: CurriculumSection, difficulty: NDArray[np.float64], seed: int, draws: int) -> Curriculum:
    """The curriculum of a run.

    Args:
        section: the config.
        difficulty: of every training example, [examples].
        seed: of the order.
        draws: of the whole run.
    """
    if section.order == NONE:
        return Shuffled(len(difficulty), seed)
    if section.order == PACED:
        pace = section.pace
        assert pace is not None
        return Paced(difficulty, seed, draws, pace.competence, pace.start, pace.full_at, pace.review)
    return Sorted(difficulty, seed, hard_first=section.order == HARD_FIRST)
