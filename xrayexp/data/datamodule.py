"""Table -> examples -> splits -> effective batches, for Lightning."""

from __future__ import annotations

import atexit
import logging
import signal
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from xrayexp.data.collate import Batch, BrokenImage, EncodedSample, ReportEncoder, check_lengths, collate
from xrayexp.data.curriculum import NONE, PACED, Shuffled, make_curriculum
from xrayexp.data.dataset import Cache, MemoryCache, NoCache, ReportDataset
from xrayexp.data.difficulty import difficulties
from xrayexp.data.partition import TRAIN, partition
from xrayexp.data.quarantine import Quarantine
from xrayexp.data.sampler import Cursor, EffectiveBatchSampler
from xrayexp.data.square_cache import SquareCache
from xrayexp.errors import DataError, UserError

if TYPE_CHECKING:
    import torch

    from xrayexp.data.augmentation import Augmentation
    from xrayexp.data.config import DataSection
    from xrayexp.data.curriculum import Curriculum, CurriculumSection
    from xrayexp.data.examples import Source

log = logging.getLogger(__name__)

Item = EncodedSample | BrokenImage


class ResumableDataLoader(DataLoader[Item]):
    """Tells Lightning that the middle of an epoch may be resumed: the position is the data module's `cursor`.

    Its workers ignore SIGTERM, by which Python ends what is left of them when the process ends, and would wait for
    them forever after an error: so they are killed before that.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _LOADERS.add(self)

    def kill_workers(self) -> None:
        """Ends the worker processes at once."""
        for worker in getattr(self._iterator, "_workers", ()):
            worker.kill()

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
        synthetic: generated images for training; None for none.
        augmentation: random changes of training images; None for none.
        splits: those whose images are needed.
        quarantine: a CSV for the images that cannot be read; None to keep no list.

    Raises:
        DataError: when a split is empty, shares a patient, study or report with another, or lacks too many images.
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
        synthetic: Source | None = None,
        augmentation: Augmentation | None = None,
        splits: Sequence[str] = ("train", "validation", "test"),
        quarantine: Path | None = None,
    ) -> None:
        super().__init__()
        self.section, self.source, self.encoder = section, source, encoder
        self.synthetic, self.augmentation = synthetic, augmentation
        self.effective_batch_size, self.eval_batch_size = effective_batch_size, eval_batch_size
        self.evaluated_split, self.seed = evaluated_split, seed
        self.partition = partition(section, source, synthetic)
        self.splits = dict(self.partition.examples)
        sizes = {name: len(examples) for name, examples in self.splits.items()}
        self.quarantine = Quarantine(sizes, section.max_broken_fraction, quarantine)
        for name in splits:
            self._leave_out_absent(name)
        self.cursor = Cursor()
        self._cache = self._make_cache(splits)
        self._training_set: dict[str, Any] = {}
        self.visits = np.zeros(0, dtype=np.int64)  # how often every training sample was trained on
        self._follow(Shuffled(len(self.splits[TRAIN]), seed), NONE, np.zeros(len(self.splits[TRAIN])))

    def follow_curriculum(self, section: CurriculumSection, total_steps: Callable[[int], int]) -> None:
        """Orders the training samples.

        Args:
            section: the curriculum config.
            total_steps: optimiser steps of the whole training, given those of an epoch.
        """
        difficulty = difficulties(self.splits[TRAIN], section.difficulty)
        draws = total_steps(self.batches_per_epoch) * self.effective_batch_size
        lengths = [self.encoder.length(example) for example in self.splits[TRAIN]] if section.group_by_length else None
        curriculum = make_curriculum(section, difficulty, self.seed, draws)
        self._follow(curriculum, section.order, difficulty, draws, lengths)
        if section.order != NONE and draws < len(difficulty):
            log.warning(
                "curriculum=%s: the run draws %s samples and has %s, so that some are never seen",
                section.name, f"{draws:,}", f"{len(difficulty):,}",
            )  # fmt: skip

    @property
    def batches_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return len(self.sampler)

    def check_training_set(self) -> None:
        """Refuses training samples that are longer than the limit; reads every label but no image."""
        check_lengths(self.encoder, self.splits[TRAIN])

    def state_dict(self) -> dict[str, Any]:
        """The position in the training data, and what they are."""
        return {"epoch": self.cursor.epoch, "done": self.cursor.done} | self._training_set

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where a run stood.

        Raises:
            UserError: it trained on other samples, its pace was set for another number of steps, or its order was
                made from other difficulties.
        """
        stored = {key: state_dict[key] for key in self._training_set}
        if stored["training_set"] != self._training_set["training_set"]:
            raise UserError(
                "the training images are not those that the run was started with: images were added, removed, "
                "relabelled or found broken since (compare splits.parquet in its folder). Start a new run with "
                "init_from=ADAPTER."
            )
        if stored["paced_draws"] != self._training_set["paced_draws"]:
            raise UserError(
                f"a paced curriculum cannot be stretched: it was made for {stored['paced_draws']:,} draws, and "
                f"trainer.max_steps or max_epochs now make {self._training_set['paced_draws']:,}"
            )
        if stored["difficulty"] != self._training_set["difficulty"]:
            raise UserError(
                "the training images are not as difficult as when the run was started, so that they would come in "
                "another order: give the curriculum.difficulty.losses of then, or start a new run"
            )
        self.cursor.epoch, self.cursor.done = state_dict["epoch"], state_dict["done"]
        orders = [self.sampler.drawn(epoch) for epoch in range(self.cursor.epoch)]
        orders.append(self.sampler.drawn(self.cursor.epoch, self.cursor.done))
        self.visits = np.bincount(np.concatenate(orders), minlength=len(self.visits))

    def advance(self) -> None:
        """To be called after every optimiser step."""
        drawn = [draw.sample for draw in self.sampler.plan(self.cursor.epoch)[self.cursor.done]]
        np.add.at(self.visits, drawn, 1)
        self._latest = np.array(drawn)
        self.cursor.advance(self.batches_per_epoch)

    def pace(self) -> dict[str, float]:
        """How far the curriculum has come, for the loggers; nothing without one.

        The share of the samples that may be drawn, the mean difficulty of the last batch, the share of the samples
        that were seen, and how often the most seen one was.
        """
        if self._order == NONE or not len(self._latest):
            return {}
        return {
            "curriculum/open_share": self.sampler.curriculum.open_share(int(self.visits.sum())),
            "curriculum/difficulty": float(self._difficulty[self._latest].mean()),
            "curriculum/seen_share": float((self.visits > 0).mean()),
            "curriculum/most_visits": float(self.visits.max()),
        }

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Notes the broken images that came with the batch, once each."""
        trainer: Any = self.trainer
        of_training = trainer.training or trainer.predicting
        split = TRAIN if of_training else "validation" if trainer.validating else self.evaluated_split
        self.quarantine.add(split, batch.broken)
        return batch

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch  # micro-batches move one by one, when they are needed

    def train_dataloader(self) -> DataLoader[Item]:
        if self.trainer is not None:  # processes that train together share every batch
            self.sampler.rank, self.sampler.ranks = self.trainer.global_rank, self.trainer.world_size
        return self._loader(self._dataset(TRAIN, supervised=True, augmented=True), batch_sampler=self.sampler)

    def val_dataloader(self) -> DataLoader[Item]:
        return self._eval_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Item]:
        return self._eval_dataloader(self.evaluated_split)

    def predict_dataloader(self) -> DataLoader[Item]:
        """The training samples with their reports as they are: in the table's order, nothing augmented."""
        return self._loader(self._dataset(TRAIN, supervised=True), batch_size=self.eval_batch_size)

    def _leave_out_absent(self, split: str) -> None:
        """Takes out what is known to be missing before anything slow begins."""
        examples = self.splits[split]
        absent = dict(self.source.absent([e.image_id for e in examples if e.provenance is None]))
        if self.synthetic is not None:
            absent |= self.synthetic.absent([e.image_id for e in examples if e.provenance is not None])
        self.quarantine.add(split, [BrokenImage(image_id, reason) for image_id, reason in absent.items()])
        self.splits[split] = [example for example in examples if example.image_id not in absent]
        if not self.splits[split]:
            raise DataError(f"data={self.section.name}: no image of the {split} split is there")

    def _follow(
        self,
        curriculum: Curriculum,
        order: str,
        difficulty: np.ndarray,
        draws: int = 0,
        lengths: Sequence[int] | None = None,
    ) -> None:
        examples = self.splits[TRAIN]
        self.sampler = EffectiveBatchSampler(
            curriculum, len(examples), self.effective_batch_size, self.cursor, lengths=lengths
        )
        self.visits = np.zeros(len(examples), dtype=np.int64)
        self._order, self._difficulty, self._latest = order, difficulty, np.empty(0, dtype=np.int64)
        names = "\n".join(f"{example.image_id} {example.findings}" for example in examples)
        # Rounded, because logarithms differ in their last digit from one processor to another.
        hardness = b"" if order == NONE else (np.round(difficulty, 9) + 0.0).tobytes()  # -0.0 is 0.0
        self._training_set = {
            "training_set": blake2b(names.encode(), digest_size=8).hexdigest(),
            "paced_draws": draws if order == PACED else 0,
            "difficulty": blake2b(hardness, digest_size=8).hexdigest(),
        }

    def _make_cache(self, splits: Sequence[str]) -> Cache:
        if self.section.cache == "disk":
            image_ids = [example.image_id for name in splits for example in self.splits[name]]
            filter_name = Image.Resampling(self.encoder.resample).name
            # Not the selection or the synthetic images: they change which images are read, and not what becomes of one.
            about = (self.source.origin, self.section.preprocessing.describe(), filter_name)
            folder = Path(self.section.cache_dir).expanduser()
            return SquareCache(folder, about, self.encoder.image_size, image_ids)
        return MemoryCache() if self.section.cache == "memory" else NoCache()

    def _eval_dataloader(self, split: str) -> DataLoader[Item]:
        return self._loader(self._dataset(split, supervised=False), batch_size=self.eval_batch_size)

    def _dataset(self, split: str, *, supervised: bool, augmented: bool = False) -> ReportDataset:
        return ReportDataset(
            self.splits[split],
            self.source,
            self.encoder,
            self.section.preprocessing,
            supervised=supervised,
            cache=self._cache,
            synthetic=self.synthetic,
            augmentation=self.augmentation if augmented else None,
            threads=self.section.threads,
        )

    def _loader(self, dataset: ReportDataset, **order: object) -> DataLoader[Item]:
        workers = self.section.num_workers
        return ResumableDataLoader(
            dataset,
            # Not a method: spawned workers would receive the trainer and the model with it.
            collate_fn=partial(collate, pad_token_id=self.encoder.pad_token_id),
            num_workers=workers,
            prefetch_factor=self.section.prefetch if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=_ignore_signals,
            **order,
        )


_LOADERS: weakref.WeakSet[ResumableDataLoader] = weakref.WeakSet()


@atexit.register
def _kill_workers() -> None:
    for loader in _LOADERS:
        loader.kill_workers()


def _ignore_signals(_: int) -> None:
    """Ctrl-C and a batch system's SIGTERM reach the workers too; the main process ends them when it has saved."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
