"""What the controls change: the data set's labels, or the base's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xrayexp.data import table as columns
from xrayexp.data.splits import assign_splits

if TYPE_CHECKING:
    import pandas as pd

    from xrayexp.data.examples import Source

SEED = 0


class ShuffledLabels:
    """A source whose training images have each other's labels: the frequencies stay, the connection is lost.

    Validation and test keep their own labels, so that nothing but what is learned differs from the source.

    Args:
        source: the real source.
        shares: `data.split.shares`, to know which rows are for training.
        split_seed: `data.split.seed`.
    """

    def __init__(self, source: Source, shares: dict[str, float], split_seed: int) -> None:
        self.source, self.shares, self.split_seed = source, shares, split_seed

    def table(self) -> pd.DataFrame:
        """The source's table with the labels of the training rows permuted."""
        table = self.source.table()
        training = (assign_splits(table, self.shares, self.split_seed) == "train").to_numpy()
        order = np.random.default_rng(SEED).permutation(int(training.sum()))
        labels = [columns.METHOD, columns.SENTENCES]
        table.loc[training, labels] = table.loc[training, labels].to_numpy()[order]
        return table

    def image(self, image_id: str) -> np.ndarray:
        """The source's image."""
        return self.source.image(image_id)

    @property
    def origin(self) -> str:
        """The source's."""
        return self.source.origin

    def version(self, image_id: str) -> str:
        """The source's."""
        return self.source.version(image_id)

    def absent(self, image_ids: Sequence[str]) -> Mapping[str, str]:
        """Those that the source lacks."""
        return self.source.absent(image_ids)


def random_base(pretrained: str, folder: Path) -> str:
    """Writes a model like `pretrained` with weights that were never trained; returns its folder."""
    import torch

    from experiments.tiny_base.pretrain import build_model
    from xrayexp.models.loading import load_processor

    processor: Any = load_processor(pretrained)
    torch.manual_seed(SEED)
    build_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
