"""From a source to batches: no patient in two splits, and the same samples however they are prepared."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from xrayexp.config import parse_section
from xrayexp.data.collate import IGNORED, Batch, ReportEncoder
from xrayexp.data.config import SPLITS, DataSection
from xrayexp.data.curriculum import CurriculumSection
from xrayexp.data.datamodule import ReportDataModule
from xrayexp.data.examples import Source
from xrayexp.data.phantom import PhantomSource
from xrayexp.data.report import Finding
from xrayexp.errors import DataError, UserError

Make = Callable[..., ReportDataModule]


def section(cfg: DictConfig) -> DataSection:
    problems: list[str] = []
    data = parse_section(cfg, "data", DataSection, problems)
    assert data is not None
    assert not problems
    return data


@pytest.fixture(scope="module")
def make(compose: Callable[..., DictConfig], small: Sequence[str], encoder: ReportEncoder) -> Make:
    """`make(*overrides)`: the data module of a small run."""

    def module(*overrides: str, source: Source | None = None) -> ReportDataModule:
        data = section(compose(*small, *overrides))
        return ReportDataModule(
            data,
            source or instantiate(data.source, _convert_="all"),
            encoder,
            seed=0,
            effective_batch_size=8,
            eval_batch_size=4,
        )

    return module


@pytest.fixture(scope="module")
def data(make: Make) -> ReportDataModule:
    return make()


def epoch(module: ReportDataModule) -> Iterator[Batch]:
    """One epoch as the trainer walks through it."""
    for batch in module.train_dataloader():
        yield batch
        module.advance()


def ids(batches: Iterator[Batch]) -> list[list[str]]:
    return [[sample.example.image_id for sample in batch.samples] for batch in batches]


def test_splits_share_no_patient_study_or_image(make: Make) -> None:
    splits = make("data.max_images={train: null, validation: null, test: null}").splits
    assert set(splits) == set(SPLITS)
    for key in ("patient_id", "study_id", "image_id"):
        values = [{getattr(example, key) for example in examples} for examples in splits.values()]
        assert sum(map(len, values)) == len(set().union(*values))
        assert all(values)


def test_an_epoch_trains_on_every_sample_once(data: ReportDataModule) -> None:
    batches = ids(epoch(data))
    assert len(batches) == data.batches_per_epoch == 8
    assert [len(batch) for batch in batches] == [8] * 8
    seen = sorted(image_id for batch in batches for image_id in batch)
    assert seen == sorted(example.image_id for example in data.splits["train"])
    assert data.cursor.epoch == 1
    assert ids(epoch(data)) != batches


def test_evaluation_asks_and_never_tells(data: ReportDataModule) -> None:
    for loader, split in ((data.val_dataloader(), "validation"), (data.test_dataloader(), "test")):
        batches = list(loader)
        assert [s.example for batch in batches for s in batch.samples] == data.splits[split]
        assert max(len(batch) for batch in batches) == 4
        assert all((s.labels == IGNORED).all() for batch in batches for s in batch.samples)


def test_the_evaluated_split_can_be_chosen(data: ReportDataModule, encoder: ReportEncoder) -> None:
    other = ReportDataModule(
        data.section, data.source, encoder,
        seed=0, effective_batch_size=8, eval_batch_size=4, evaluated_split="validation",
    )  # fmt: skip
    examples = [sample.example for batch in other.test_dataloader() for sample in batch.samples]
    assert examples == data.splits["validation"]


@pytest.mark.parametrize("kept", ["memory", "disk", "none"])
def test_workers_change_nothing(make: Make, kept: str, tmp_path: Path) -> None:
    """Not the order, not the tokens, not the pixels, in the first epoch and in the second."""
    options = (f"data.cache={kept}", f"data.cache_dir={tmp_path}")
    alone, helped = make("data.num_workers=0"), make("data.num_workers=2", "data.threads=2", *options)
    loaders = alone.train_dataloader(), helped.train_dataloader()
    for _ in range(2):
        for one, other in zip(*loaders, strict=True):
            assert [s.example for s in one.samples] == [s.example for s in other.samples]
            for mine, theirs in zip(one.samples, other.samples, strict=True):
                for name in ("input_ids", "labels", "token_type_ids", "pixel_values"):
                    assert torch.equal(getattr(mine, name), getattr(theirs, name))
            alone.advance()
            helped.advance()
    assert alone.cursor == helped.cursor
    assert alone.cursor.epoch == 2


def test_workers_continue_from_the_cursor(make: Make) -> None:
    whole, cut = make(), make("data.num_workers=2")
    expected = ids(epoch(whole)) + ids(epoch(whole))
    cut.cursor.epoch, cut.cursor.done = 1, 3
    assert ids(epoch(cut)) == expected[8 + 3 :]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_the_batches_of_one_process(make: Make, ranks: int) -> None:
    """Whatever curriculum orders them; the whole batch comes back when the shares are dealt out in turn."""
    whole, parts = make(), [make() for _ in range(ranks)]
    for rank, part in enumerate(parts):
        part.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)  # type: ignore[assignment]
    for batch, *shares in zip(ids(epoch(whole)), *(ids(epoch(part)) for part in parts), strict=True):
        assert [shares[place % ranks][place // ranks] for place in range(len(batch))] == batch
        assert sum(map(len, shares)) == len(batch)
    assert all(part.cursor == whole.cursor and (part.visits == whole.visits).all() for part in parts)


def test_a_limit_takes_part_of_what_a_larger_limit_takes(make: Make) -> None:
    few, more, everything = (
        [example.image_id for example in make(f"data.max_images.train={most}").splits["train"]]
        for most in ("10", "40", "null")
    )
    assert len(few) == 10
    assert len(more) == 40
    assert set(few) < set(more) < set(everything)
    assert [image_id for image_id in everything if image_id in few] == few  # in the table's order
    assert everything.index(few[-1]) > 40  # spread over the table, not its head


def test_a_limit_above_what_there_is(make: Make) -> None:
    assert len(make("data.max_images.test=100000").splits["test"]) < 100


def test_a_position_is_one_in_the_same_images_with_the_same_labels(
    make: Make, data: ReportDataModule, compose: Callable[..., DictConfig]
) -> None:
    position = data.state_dict()
    same, other = make(), make()
    same.load_state_dict(position)
    train = other.splits["train"]
    train[0] = replace(train[0], findings=(Finding("nodule", ("left hilar",)),))
    curriculum = parse_section(compose(), "curriculum", CurriculumSection, [])
    assert curriculum is not None
    other.follow_curriculum(curriculum, lambda steps: steps)
    with pytest.raises(UserError, match="added, removed, relabelled or found broken"):
        other.load_state_dict(position)


def test_an_empty_split_is_an_error(make: Make) -> None:
    with pytest.raises(DataError, match="split is empty"):
        make("data.source.patients=1")


def test_an_empty_data_set_is_an_error(make: Make, data: ReportDataModule) -> None:
    class Nothing:
        """A source whose rows were all unusable."""

        def table(self):  # type: ignore[no-untyped-def]
            return data.source.table().iloc[:0]

        image = data.source.image

    with pytest.raises(DataError, match="no usable image"):
        make(source=Nothing())


def test_too_long_reports_are_found_before_training(make: Make) -> None:
    module = make()
    module.check_training_set()
    module.encoder = ReportEncoder(module.encoder.processor, "What?", max_length=50)
    with pytest.raises(DataError, match=r"of 64 training samples.*model\.max_length=50"):
        module.check_training_set()


class Unpicklable:
    """Stands for the trainer and the model behind it."""

    global_rank, world_size = 0, 1

    def __reduce__(self) -> str:
        raise TypeError("a worker was sent the trainer")


def test_workers_receive_no_model(make: Make) -> None:
    """Spawned workers get the loader's parts pickled, so nothing in them may lead to the trainer."""
    module = make()
    module.trainer = Unpicklable()  # type: ignore[assignment]
    loader = module.train_dataloader()
    collate, dataset = pickle.loads(pickle.dumps((loader.collate_fn, loader.dataset)))
    assert len(collate([dataset[0], dataset[1]])) == 2


def test_samples_are_kept_as_far_as_memory_is_allowed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xrayexp.data.dataset.KEPT_BYTES", 2 * 64 * 64)
    module = make()
    drawn: list[str] = []
    draw = module.source.image

    def image(image_id: str) -> NDArray[np.uint8]:
        drawn.append(image_id)
        return draw(image_id)

    monkeypatch.setattr(module.source, "image", image)
    dataset = module.train_dataloader().dataset
    for _ in range(2):
        for index in range(4):
            dataset[index]
    asked = [example.image_id for example in module.splits["train"][:4]]
    assert drawn == [*asked, *asked[2:]]


def pixels(module: ReportDataModule) -> dict[str, torch.Tensor]:
    return {sample.example.image_id: sample.pixels for batch in epoch(module) for sample in batch.samples}


def test_what_lies_on_disk_outlives_a_run(
    make: Make, data: ReportDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the next one selects other images; another source, filter or preprocessing is another matter."""
    disk = ("data.cache=disk", f"data.cache_dir={tmp_path}")
    first = pixels(make(*disk))
    asked: list[str] = []
    draw = PhantomSource.image

    def image(source: PhantomSource, image_id: str) -> NDArray[np.uint8]:
        asked.append(image_id)
        return draw(source, image_id)

    monkeypatch.setattr(PhantomSource, "image", image)
    again = pixels(make(*disk, "data.max_images.train=40", "data.source.patients=210"))
    known = [name for name in again if name in first]
    assert len(known) > 20
    assert set(asked) == set(again) - set(known)
    assert all(torch.equal(again[name], first[name]) for name in known)
    assert len(list(tmp_path.glob("squares-*"))) == 1
    for number, other in enumerate(("data.preprocessing.clahe=2.0", "data.source.image_size=80"), start=2):
        asked.clear()
        assert not any(torch.equal(tensor, first[name]) for name, tensor in pixels(make(*disk, other)).items())
        assert len(asked) == 64
        assert len(list(tmp_path.glob("squares-*"))) == number


def test_a_full_disk_breaks_no_image(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make("data.cache=disk", f"data.cache_dir={tmp_path}")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    batches = list(epoch(module))
    assert [len(batch) for batch in batches] == [8] * 8
    assert not any(batch.broken for batch in batches)


def test_threads_wait_together(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow mount a worker asks for as many images at once as it has threads: here none comes before all are."""
    module = make("data.threads=4", "data.cache=none")
    together = threading.Barrier(4)
    draw = module.source.image

    def image(image_id: str) -> NDArray[np.uint8]:
        together.wait(timeout=60)
        return draw(image_id)

    monkeypatch.setattr(module.source, "image", image)
    assert len(next(iter(module.train_dataloader()))) == 8


def test_workers_prepare_ahead(make: Make) -> None:
    loader = make("data.num_workers=2", "data.prefetch=3").train_dataloader()
    assert (loader.num_workers, loader.prefetch_factor) == (2, 3)


def test_an_error_ends_a_process_whose_workers_ignore_signals() -> None:
    """Python's own end of a process asks daemons by SIGTERM, and waits."""
    code = (
        "from xrayexp.data.datamodule import ResumableDataLoader, _ignore_signals\n"
        "kept = ResumableDataLoader(range(9), num_workers=1, persistent_workers=True, worker_init_fn=_ignore_signals)\n"
        "batches = iter(kept); next(batches)\n"
        "raise SystemExit(3)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 3
