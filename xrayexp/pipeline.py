"""Walks through the rooms in order: the only code that puts the whole together."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from xrayexp.adapters.attach import attach_adapter, base_model, load_adapter, trainable_parameters
from xrayexp.checks import require
from xrayexp.config import parse_section
from xrayexp.data.collate import ReportEncoder
from xrayexp.data.datamodule import ReportDataModule
from xrayexp.errors import ConfigError
from xrayexp.memory.measure import peak_memory_gib
from xrayexp.metrics.config import MetricsSection
from xrayexp.metrics.structured import structured_metrics
from xrayexp.models.loading import enable_gradient_checkpointing, load_model, load_processor
from xrayexp.quiet import quiet_libraries
from xrayexp.settings import Settings
from xrayexp.tracking.run_folder import RunFolder, write_json
from xrayexp.tracking.summary import EvaluationSummary, TrainingSummary, plain_text
from xrayexp.training.callbacks import BestAdapter, PredictionWriter
from xrayexp.training.module import ReportModule
from xrayexp.training.progress import progress_callback

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

CHECKPOINTS = ("best", "last", "none")
EVALUATED_SPLITS = ("validation", "test")


def train(cfg: DictConfig) -> TrainingSummary:
    """Fine-tunes an adapter and evaluates the best one.

    Args:
        cfg: the composed config of conf/train.yaml.

    Returns:
        The summary, also written to the run folder.

    Raises:
        UserError: for whatever the user can fix, before anything slow wherever possible.
    """
    quiet_libraries()
    settings = Settings.from_config(cfg)
    require(settings.requirements())
    _use_threads(settings)
    L.seed_everything(settings.seed, verbose=False)
    data = _data_module(settings)
    data.check_training_set()
    module = _training_module(settings, data.encoder)
    run = RunFolder.create(Path(cfg.paths.output_dir), settings.cfg)
    log.info("run folder: %s", run.path)
    summary = _fit(settings, run, module, data)
    write_json(run.summary_file, summary.to_json())
    if settings.test:
        del module  # a second base model would not fit beside the first
        summary = replace(summary, evaluation=_evaluate(settings, run, "test", "best", settings.metrics))
    return summary


def evaluate(cfg: DictConfig) -> EvaluationSummary:
    """Evaluates a run on one split.

    Args:
        cfg: the composed config of conf/evaluate.yaml.

    Returns:
        The summary; predictions.jsonl, metrics.json and the table are in its folder.

    Raises:
        UserError: for whatever the user can fix, before anything slow wherever possible.
    """
    quiet_libraries()
    metrics = _check_evaluation(cfg)
    run = RunFolder.open(Path(cfg.run))
    settings = Settings.from_config(run.config())
    if cfg.batch_size is not None:
        settings.trainer.eval_batch_size = cfg.batch_size
    require(settings.requirements())
    _use_threads(settings)
    return _evaluate(settings, run, cfg.split, cfg.checkpoint, metrics)


def _check_evaluation(cfg: DictConfig) -> MetricsSection:
    problems: list[str] = []
    if OmegaConf.is_missing(cfg, "run"):
        problems.append("run is missing: python evaluate.py run=outputs/...")
    if cfg.split not in EVALUATED_SPLITS:
        problems.append(f"split must be one of {', '.join(EVALUATED_SPLITS)}, not '{cfg.split}'")
    if cfg.checkpoint not in CHECKPOINTS:
        problems.append(f"checkpoint must be one of {', '.join(CHECKPOINTS)}, not '{cfg.checkpoint}'")
    if cfg.batch_size is not None and not (isinstance(cfg.batch_size, int) and cfg.batch_size > 0):
        problems.append(f"batch_size must be a whole number of at least 1 or null, not {cfg.batch_size}")
    metrics = parse_section(cfg, "metrics", MetricsSection, problems)
    if problems or metrics is None:
        raise ConfigError(problems)
    return metrics


def _use_threads(settings: Settings) -> None:
    if settings.trainer.num_threads is not None:
        torch.set_num_threads(settings.trainer.num_threads)


def _data_module(settings: Settings, evaluated_split: str = "test") -> ReportDataModule:
    """Labels and splits are read here, images when they are needed."""
    encoder = ReportEncoder(load_processor(settings.model.pretrained), settings.data.prompt, settings.model.max_length)
    return ReportDataModule(
        settings.data,
        instantiate(settings.data.source, _convert_="all"),
        encoder,
        seed=settings.seed,
        effective_batch_size=settings.trainer.effective_batch_size,
        eval_batch_size=settings.trainer.eval_batch_size,
        evaluated_split=evaluated_split,
    )


def _base_model(settings: Settings) -> PreTrainedModel:
    quantization = settings.quantization.config
    return load_model(
        settings.model.pretrained,
        quantization=instantiate(quantization) if quantization is not None else None,
        dtype=settings.trainer.dtype,
        device=settings.trainer.device,
        attention=settings.model.attention,
    )


def _training_module(settings: Settings, encoder: ReportEncoder) -> ReportModule:
    model = attach_adapter(_base_model(settings), settings.adapter)
    if settings.trainer.gradient_checkpointing:
        enable_gradient_checkpointing(base_model(model))
    model.train()  # transformers loads models in evaluation mode, where dropout does nothing
    return ReportModule(
        model,
        encoder,
        settings.trainer,
        optimizer=settings.optimizer(),
        scheduler=settings.scheduler(),
        max_new_tokens=settings.model.max_new_tokens,
        seed=settings.seed,
    )


def _fit(settings: Settings, run: RunFolder, module: ReportModule, data: ReportDataModule) -> TrainingSummary:
    best = BestAdapter(run.checkpoints, settings.trainer.monitor)
    callbacks = [best, *(instantiate(callback) for callback in settings.cfg["callbacks"].values())]
    steps = settings.trainer.validate_every
    trainer = _trainer(
        settings,
        run,
        callbacks,
        logger=[instantiate(logger) for logger in settings.cfg["logger"].values()],
        max_steps=settings.trainer.total_steps(data.batches_per_epoch),
        log_every_n_steps=settings.trainer.log_every,
        # An interval in steps counts across epochs.
        val_check_interval=steps,
        check_val_every_n_epoch=1 if steps is None else None,
        num_sanity_val_steps=0,
    )
    trainable, total = trainable_parameters(module.model)
    counts = f"{trainable:,} of {total:,} parameters"
    log.info("adapter %s on %s: %s are trained", settings.adapter.name, settings.adapter.target, counts)
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.fit(module, datamodule=data)
    return TrainingSummary(
        folder=run.path,
        model=settings.model.name,
        data=settings.data.name,
        adapter=settings.adapter.name,
        trainable_parameters=trainable,
        total_parameters=total,
        steps=trainer.global_step,
        monitor=settings.trainer.monitor,
        best_score=best.best_score if best.best_step is not None else None,
        best_step=best.best_step,
        fit_seconds=time.perf_counter() - wall,
        fit_cpu_seconds=time.process_time() - cpu,
        peak_memory_gib=peak_memory_gib(settings.trainer.device),
    )


def _evaluate(
    settings: Settings, run: RunFolder, split: str, checkpoint: str, section: MetricsSection
) -> EvaluationSummary:
    data = _data_module(settings, evaluated_split=split)
    base = _base_model(settings)
    model = base if checkpoint == "none" else load_adapter(base, run.adapter(checkpoint))
    module = ReportModule(model, data.encoder, settings.trainer, max_new_tokens=settings.model.max_new_tokens)
    folder = run.evaluation(split, checkpoint)
    trainer = _trainer(settings, run, [PredictionWriter(folder / "predictions.jsonl")], logger=False)
    trainer.test(module, datamodule=data, verbose=False)
    metrics = structured_metrics(module.scored, **vars(section))
    write_json(folder / "metrics.json", metrics.to_json())
    summary = EvaluationSummary(folder, split, checkpoint, metrics)
    (folder / "table.txt").write_text(plain_text(summary), encoding="utf-8")
    return summary


def _trainer(settings: Settings, run: RunFolder, callbacks: list[L.Callback], **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator=settings.trainer.accelerator,
        devices=1,
        precision=settings.trainer.precision,  # type: ignore[arg-type]
        default_root_dir=run.path,
        callbacks=[progress_callback(), *callbacks],
        enable_checkpointing=False,  # adapters are saved by BestAdapter, the base never
        enable_model_summary=False,
        **options,
    )
