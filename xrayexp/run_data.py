"""The data of a run: its splits, its encoder, and who reads its answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from xrayexp.data.answers import ReportForm
from xrayexp.data.collate import ReportEncoder
from xrayexp.data.config import DataSection
from xrayexp.data.datamodule import ReportDataModule
from xrayexp.data.examples import Source
from xrayexp.models.loading import load_processor
from xrayexp.settings import Settings
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.training.judging import Judge

log = logging.getLogger(__name__)


def data_module(settings: Settings, quarantine: Path | None, **options: Any) -> ReportDataModule:
    """The data of a run; labels and splits are read here, images when they are needed."""
    encoder = ReportEncoder(load_processor(settings.model.pretrained), settings.data.prompt, settings.model.max_length)
    data = ReportDataModule(
        settings.data,
        instantiate(settings.data.source, _convert_="all"),
        encoder,
        seed=settings.seed,
        effective_batch_size=settings.trainer.effective_batch_size,
        eval_batch_size=settings.trainer.eval_batch_size,
        synthetic=settings.synthetic(),
        augmentation=settings.augmenter(),
        quarantine=quarantine,
        **options,
    )
    counts = ", ".join(f"{len(examples):,} {name}" for name, examples in data.splits.items())
    log.info("data %s: %s", settings.data.name, counts)
    return data


def judge(source: Source, section: DataSection) -> Judge:
    """Reads the reports that a model was trained to write."""
    return Judge(source, ReportForm(), section.preprocessing, names=())


def write_splits(run: RunFolder, data: ReportDataModule) -> None:
    """Who is in which split, and how evenly the findings are spread; a resumed run keeps what it was started with."""
    if not run.splits_file.exists():
        data.partition.write(run.splits_file, run.balance_file)
