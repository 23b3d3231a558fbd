"""The parts of a small run, put together by hand, so that a test can replace one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from xrayexp.adapters.attach import attach_adapter
from xrayexp.data.answers import ReportForm
from xrayexp.data.collate import ReportEncoder
from xrayexp.data.datamodule import ReportDataModule
from xrayexp.models.loading import load_model, load_processor
from xrayexp.settings import Settings
from xrayexp.training.feature_store import feature_store
from xrayexp.training.judging import Judge
from xrayexp.training.module import ReportModule


@dataclass(frozen=True)
class Parts:
    """What `xrayexp.pipeline.train` would have put together."""

    settings: Settings
    data: ReportDataModule
    module: ReportModule

    def fit(self, *callbacks: L.Callback, validate: bool = False, log_every: int = 50) -> L.Trainer:
        """Trains with the real trainer, which is returned."""
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=self.settings.trainer.total_steps(self.data.batches_per_epoch),
            callbacks=list(callbacks),
            log_every_n_steps=log_every,
            val_check_interval=self.settings.trainer.validate_every if validate else None,
            check_val_every_n_epoch=None if validate else 1,
            limit_val_batches=1.0 if validate else 0,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(self.module, datamodule=self.data)
        return trainer


@pytest.fixture(scope="session")
def build(compose: Callable[..., DictConfig], small: Sequence[str]) -> Callable[..., Parts]:
    """`build(*overrides)`: the parts of a small run; a kind of module or encoder can be given."""

    def parts(
        *overrides: str, kind: type[ReportModule] = ReportModule, encoder_kind: type[ReportEncoder] = ReportEncoder
    ) -> Parts:
        settings = Settings.from_config(compose(*small, *overrides))
        model, trainer = settings.model, settings.trainer
        encoder = encoder_kind(load_processor(model.pretrained), settings.data.prompt, model.max_length)
        data = ReportDataModule(
            settings.data,
            instantiate(settings.data.source, _convert_="all"),
            encoder,
            seed=settings.seed,
            effective_batch_size=trainer.effective_batch_size,
            eval_batch_size=trainer.eval_batch_size,
            augmentation=settings.augmenter(),
        )
        data.follow_curriculum(settings.curriculum, trainer.total_steps)
        torch.manual_seed(settings.seed)
        config: Any = settings.quantization.config
        base = load_model(
            model.pretrained,
            quantization=instantiate(config),
            dtype=trainer.dtype,
            device=trainer.device,
        )
        module = kind(
            attach_adapter(base, settings.adapter, trainer.total_steps(data.batches_per_epoch)).train(),
            encoder,
            trainer,
            optimizer=settings.optimizer(),
            scheduler=settings.scheduler(),
            max_new_tokens=model.max_new_tokens,
            judge=Judge(data.source, ReportForm(), settings.data.preprocessing, names=()),
            seed=settings.seed,
        )
        images = [example.image_id for example in data.splits["train"]]
        module.features = feature_store(base, trainer, Path(settings.data.cache_dir), images)
        return Parts(settings, data, module)

    return parts
