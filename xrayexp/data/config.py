"""The config section of the data room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xrayexp.data.preprocessing import PreprocessingSection

CACHES = ("none", "memory", "disk")
SPLITS = ("train", "validation", "test")
METHODS = ("hash", "stratified")  # of assigning patients to splits


@dataclass
class SplitSection:
    """`data.split`: who is in train, validation and test.

    Attributes:
        shares: of the patients, by split; test alone has a share of a test set.
        seed: of the hash or the stratification that assigns them.
        method: `hash`, which new patients do not disturb, or `stratified`, with every finding's share.
        evaluate_on: values of `MethodLabel` that validation and test are restricted to; None for all.
    """

    shares: dict[str, float]
    seed: int
    method: str
    evaluate_on: list[str] | None


@dataclass
class SyntheticSection:
    """`data.synthetic`: generated images that are added to the training split, and to no other.

    Attributes:
        source: the `_target_` and arguments of a `xrayexp.data.examples.Source`.
        max_share: the largest share of the training images that may be synthetic.
    """

    source: dict[str, Any]
    max_share: float


@dataclass
class DataAbout:
    """`data.about`: what a model card must say of the data.

    Attributes:
        title: the data set's name.
        card_id: its name among the hub's data sets; None when it has none.
        link: its page.
        limits: what a model that was trained on it cannot know.
        terms: what its licence asks.
    """

    title: str
    card_id: str | None
    link: str | None
    limits: str
    terms: str


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
        threads: images of one batch that a worker reads at once; helps where a slow mount is waited for.
        prefetch: batches that every worker prepares ahead.
        cache: where prepared images are kept: `none`, `memory` (of every worker) or `disk`.
        cache_dir: folder of what is kept on disk.
        preprocessing: what is done to every image.
        max_broken_fraction: the share of a split's images that may be missing or broken.
        synthetic: generated images for the training split; None for none.
        requires: the `_target_` and arguments of a check that must pass before a run; None for no check.
        root: folder of the data set, for sources that have one.
        max_megapixels: larger images are refused, by sources that read files.
        about: for model cards; None in the config of a run that is older than they are.
    """

    name: str
    source: dict[str, Any]
    prompt: str
    split: SplitSection
    max_images: dict[str, int | None]
    num_workers: int
    threads: int
    prefetch: int
    cache: str
    cache_dir: str
    preprocessing: PreprocessingSection
    max_broken_fraction: float
    synthetic: SyntheticSection | None
    requires: dict[str, Any] | None = None
    root: str | None = None
    max_megapixels: float | None = None
    about: DataAbout | None = None

    @property
    def is_test_set(self) -> bool:
        """Whether there is nothing to train on or to validate with."""
        return self.split.shares["train"] == 0 or self.split.shares["validation"] == 0

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        shares = self.split.shares
        if set(shares) != set(SPLITS) or any(share < 0 for share in shares.values()):
            found.append(f"data.split.shares must give {', '.join(SPLITS)} a share of at least 0 each, not {shares}")
        elif abs(sum(shares.values()) - 1) > 1e-6:
            found.append(f"data.split.shares must add up to 1, not {sum(shares.values()):g}")
        for name, most in self.max_images.items():
            if name not in SPLITS:
                found.append(f"data.max_images: no split is called '{name}'; there are {', '.join(SPLITS)}")
            if most is not None and most < 1:
                found.append(f"data.max_images.{name} must be at least 1 or null, not {most}")
        for key, least in (("num_workers", 0), ("threads", 1), ("prefetch", 1)):
            if getattr(self, key) < least:
                found.append(f"data.{key} must be at least {least}, not {getattr(self, key)}")
        if self.cache not in CACHES:
            found.append(f"data.cache must be one of {', '.join(CACHES)}, not '{self.cache}'")
        if self.split.method not in METHODS:
            found.append(f"data.split.method must be one of {', '.join(METHODS)}, not '{self.split.method}'")
        if not 0 <= self.max_broken_fraction < 1:
            found.append(f"data.max_broken_fraction must be at least 0 and below 1, not {self.max_broken_fraction:g}")
        if self.synthetic is not None and not 0 < self.synthetic.max_share < 1:
            found.append(f"data.synthetic.max_share must be above 0 and below 1, not {self.synthetic.max_share:g}")
        return found + self.preprocessing.problems()
