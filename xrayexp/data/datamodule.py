"""Table -> examples -> splits -> effective batches, for Lightning."""

from __future__ import annotations

import signal
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import lightning as L
from torch.utils.data import DataLoader, Dataset

from xrayexp.data import table as columns
from xrayexp.data.collate import Batch, EncodedSample, ReportEncoder, check_lengths, collate
from xrayexp.data.examples import examples_from_table
from xrayexp.data.sampler import Cursor, EffectiveBatchSampler
from xrayexp.data.splits import assign_splits, check_no_leakage
from xrayexp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import torch

    from xrayexp.data.config import DataSection
    from xrayexp.data.examples import Example, Source


KEPT_BYTES = 2**30  # of encoded pixels, in every process that prepares samples


class ReportDataset(Dataset[EncodedSample]):
    """Examples with their images, encoded when they are asked for.

    Args:
        keep: hold encoded samples in memory for the next epoch, as many as fit into `KEPT_BYTES`.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        source: Source,
        encoder: ReportEncoder,
        *,
        supervised: bool,
        keep: bool,
    ) -> None:
        self.examples, self.source, self.encoder, self.supervised = examples, source, encoder, supervised
        self._room = KEPT_BYTES if keep else 0
        self._kept: dict[int, EncodedSample] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> EncodedSample:
        sample = self._kept.get(index)
        if sample is None:
            sample = self._encode(index)
            if (size := sample.pixel_values.nbytes) <= self._room:
                self._room -= size
                self._kept[index] = sample
        return sample

    def _encode(self, index: int) -> EncodedSample:
        example = self.examples[index]
        return self.encoder.encode(example, self.source.image(example.image_id), supervised=self.supervised)


class ResumableDataLoader(DataLoader[EncodedSample]):
    """Tells Lightning that the middle of an epoch may be resumed: the position is the data module's `cursor`."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class ReportDataModule(L.LightningDataModule):
    """Yields effective batches for training, and prompts to generate from for validation and test.

    Args:
        section: the data config.
        source: the data set.
        encoder: turns examples into tokens and pixels.
        seed: of the order of training samples.
        effective_batch_size: samples of one optimiser step.
        eval_batch_size: samples that are generated together.
        evaluated_split: what `Trainer.test` runs on.

    Raises:
        DataError: when a split is empty or shares a patient, study or report with another.
    """

    def __init__(
        self,
        section: DataSection,
        source: Source,
        encoder: ReportEncoder,
        *,
        seed: int,
        effective_batch_size: int,
        eval_batch_size: int,
        evaluated_split: str = "test",
    ) -> None:
        super().__init__()
        self.section, self.source, self.encoder = section, source, encoder
        self.effective_batch_size, self.eval_batch_size = effective_batch_size, eval_batch_size
        self.evaluated_split = evaluated_split
        self.splits = _split(section, source)
        self.cursor = Cursor()
        self.sampler = EffectiveBatchSampler(len(self.splits["train"]), effective_batch_size, seed, self.cursor)

    @property
    def batches_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return len(self.sampler)

    def check_training_set(self) -> None:
        """Refuses training samples that are longer than the limit; reads every label but no image."""
        check_lengths(self.encoder, self.splits["train"])

    def state_dict(self) -> dict[str, int]:
        """The position in the training data."""
        return {"epoch": self.cursor.epoch, "done": self.cursor.done}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.cursor.epoch, self.cursor.done = state_dict["epoch"], state_dict["done"]

    def advance(self) -> None:
        """To be called after every optimiser step."""
        self.cursor.advance(self.batches_per_epoch)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch  # micro-batches move one by one, when they are needed

    def train_dataloader(self) -> DataLoader[EncodedSample]:
        return self._loader(self._dataset("train", supervised=True), batch_sampler=self.sampler)

    def val_dataloader(self) -> DataLoader[EncodedSample]:
        return self._eval_dataloader("validation")

    def test_dataloader(self) -> DataLoader[EncodedSample]:
        return self._eval_dataloader(self.evaluated_split)

    def _eval_dataloader(self, split: str) -> DataLoader[EncodedSample]:
        return self._loader(self._dataset(split, supervised=False), batch_size=self.eval_batch_size)

    def _dataset(self, split: str, *, supervised: bool) -> ReportDataset:
        return ReportDataset(
            self.splits[split],
            self.source,
            self.encoder,
            supervised=supervised,
            keep=self.section.keep_in_memory,
        )

    def _loader(self, dataset: ReportDataset, **order: object) -> DataLoader[EncodedSample]:
        return ResumableDataLoader(
            dataset,
            # Not a method: spawned workers would receive the trainer and the model with it.
            collate_fn=partial(collate, pad_token_id=self.encoder.pad_token_id),
            num_workers=self.section.num_workers,
            persistent_workers=self.section.num_workers > 0,
            worker_init_fn=_ignore_signals,
            **order,  # type: ignore[arg-type]
        )


def _ignore_signals(_: int) -> None:
    """Ctrl-C and a batch system's SIGTERM reach the workers too; the main process ends them when it has saved."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _split(section: DataSection, source: Source) -> dict[str, list[Example]]:
    """The examples of every split, each cut to `max_images`."""
    table = source.table()
    if table.empty:
        raise DataError(f"data={section.name} has no usable image")
    split = assign_splits(table, section.split.shares, section.split.seed)
    check_no_leakage(table, split)
    examples = {}
    for name in section.split.shares:
        rows = _subset(table[split == name], section.max_images.get(name), section.split.seed)
        if rows.empty:
            raise DataError(f"data={section.name}: the {name} split is empty ({len(table)} images in all)")
        examples[name] = examples_from_table(rows)
    return examples


def _subset(rows: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """At most `most` rows in the table's order, chosen by a hash of their ImageID.

    So the choice is spread over the whole table, depends on no other row, and a smaller one is part of a larger.
    """
    if most is None or len(rows) <= most:
        return rows
    key = str(seed).encode()
    hashes = rows[columns.IMAGE].map(lambda image: blake2b(str(image).encode(), key=key, digest_size=8).hexdigest())
    return rows[hashes.rank(method="first") <= most]
