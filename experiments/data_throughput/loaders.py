"""The data module's loader of training batches, with Gemma 3's processor for 896 x 896 pixels and 256 image tokens."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from transformers import Gemma3Processor

from experiments.data_throughput.clock import Clock
from experiments.data_throughput.readers import SIZE
from experiments.embedded_default.runs import composed
from experiments.results import Values
from xrayexp.data.collate import ReportEncoder
from xrayexp.data.datamodule import ReportDataModule
from xrayexp.models.loading import load_processor
from xrayexp.settings import Settings

IMAGE_TOKENS = 256
EFFECTIVE_BATCH, MICRO_BATCH = 16, 4
WORKERS = (0, 1, 2)
STREAMED = 32  # images of an epoch without a cache


def _workers(number: int) -> str:
    return f"{number} worker{'s' * (number != 1)}"


FROM_CACHE = {workers: f"loader from the cache, {_workers(workers)}" for workers in WORKERS}
STREAMING = f"loader without a cache, {_workers(WORKERS[-1])}"


def loaders(folder: Path, work: Path, epochs: int) -> dict[str, Callable[[], Values]]:
    """Every loader to be measured; each call gives images, CPU seconds and seconds."""
    cached = ("data.cache=disk", f"data.cache_dir={work / 'cache'}")
    few = ("data.cache=none", f"data.max_images.train={STREAMED}")
    from_cache = {
        name: lambda workers=workers: _measured(_module(folder, workers, cached), epochs)
        for workers, name in FROM_CACHE.items()
    }
    return from_cache | {STREAMING: lambda: _measured(_module(folder, WORKERS[-1], few), 1)}


def _module(folder: Path, workers: int, overrides: tuple[str, ...]) -> ReportDataModule:
    chosen = ("data=padchest", f"data.root={folder}", f"data.num_workers={workers}", "data.max_images.validation=1")
    cfg = composed("train", [*chosen, "model=tiny", "model.max_length=1024", *overrides])
    cfg.paths.output_dir = str(folder)  # a run's; none is made here
    settings = Settings.from_config(cfg)
    return ReportDataModule(
        settings.data,
        instantiate(settings.data.source, _convert_="all"),
        ReportEncoder(_processor(settings.model.pretrained), settings.data.prompt, settings.model.max_length),
        seed=0,
        effective_batch_size=EFFECTIVE_BATCH,
        eval_batch_size=1,
        splits=["train"],
    )


def _processor(pretrained: str) -> Gemma3Processor:
    """The embedded model's, with a 4B model's image size."""
    small = load_processor(pretrained)
    images = type(small.image_processor)(size={"height": SIZE, "width": SIZE})
    return Gemma3Processor(images, small.tokenizer, chat_template=small.chat_template, image_seq_length=IMAGE_TOKENS)


def _measured(module: ReportDataModule, epochs: int) -> Values:
    """Images, CPU seconds and seconds of some epochs, after one that starts the workers and fills the cache."""
    loader = module.train_dataloader()
    _walk(module, loader)
    clock = Clock()
    values = clock.read(sum(_walk(module, loader) for _ in range(epochs)))
    del loader
    gc.collect()  # ends the workers
    return values


def _walk(module: ReportDataModule, loader: Iterable[Any]) -> int:
    """One epoch, up to micro-batches that are ready for the device; returns its images."""
    images = 0
    for batch in loader:
        images += sum(len(micro.pixels) for micro in batch.micro_batches(MICRO_BATCH))
        module.advance()
    return images
