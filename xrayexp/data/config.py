"""The config section of the data room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SPLITS = ("train", "validation", "test")


@dataclass
class SplitSection:
    """`data.split`: shares of the patients, and the seed of the hash that assigns them."""

    shares: dict[str, float]
    seed: int


@dataclass
class DataSection:
    """`data`: where examples come from and how many are used.

    Attributes:
        name: short name, for tables.
        source: the `_target_` and arguments of a `xrayexp.data.examples.Source`.
        prompt: what the user asks about every image.
        split: shares of the patients in train, validation and test.
        max_images: the most images of each split that are used; None for all.
        num_workers: processes that prepare samples beside the training process.
        keep_in_memory: keep encoded samples for the next epoch, in every worker.
        requires: the `_target_` and arguments of a check that must pass before a run; None for no check.
        root: folder of the data set, for sources that have one.
    """

    name: str
    source: dict[str, Any]
    prompt: str
    split: SplitSection
    max_images: dict[str, int | None]
    num_workers: int
    keep_in_memory: bool
    requires: dict[str, Any] | None = None
    root: str | None = None

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        shares = self.split.shares
        if set(shares) != set(SPLITS) or any(share <= 0 for share in shares.values()):
            found.append(f"data.split.shares must give {', '.join(SPLITS)} a share above 0 each, not {shares}")
        elif abs(sum(shares.values()) - 1) > 1e-6:
            found.append(f"data.split.shares must add up to 1, not {sum(shares.values()):g}")
        for name, most in self.max_images.items():
            if name not in SPLITS:
                found.append(f"data.max_images: no split is called '{name}'; there are {', '.join(SPLITS)}")
            if most is not None and most < 1:
                found.append(f"data.max_images.{name} must be at least 1 or null, not {most}")
        if self.num_workers < 0:
            found.append(f"data.num_workers must be at least 0, not {self.num_workers}")
        return found
