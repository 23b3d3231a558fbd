"""Walks through the rooms in order: the only code that puts the whole together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import lightning as L
import pandas as pd
import torch
from omegaconf import DictConfig

from xrayexp.adapters.attach import (
    adapted_layers,
    attach_adapter,
    base_model,
    load_adapter,
    require_adapter,
    restore_adapter,
    trainable_parameters,
)
from xrayexp.baseline_evaluation import beside_baselines
from xrayexp.checks import require
from xrayexp.data.datamodule import ReportDataModule
from xrayexp.data.examples import finding_shares
from xrayexp.data.losses import write_losses
from xrayexp.data.partition import TRAIN, check_not_trained_on
from xrayexp.data.quarantine import QUARANTINE
from xrayexp.evaluation import evaluate_model, evaluate_predictions, write_scores
from xrayexp.evaluation_request import Request
from xrayexp.memory.measure import forget_peak, peak_memory_gib
from xrayexp.metrics.config import MetricsSection
from xrayexp.models.loading import (
    compile_decoder_layers,
    enable_gradient_checkpointing,
    load_model,
)
from xrayexp.planning import Plan, checked
from xrayexp.quiet import quiet_libraries
from xrayexp.resume import config_of, moved, on_other_data, own_overrides, require_same_run
from xrayexp.run_data import data_module, judge, write_splits
from xrayexp.settings import Settings
from xrayexp.tracking.baseline_table import BaselineTable
from xrayexp.tracking.loggers import log_adapter, log_facts, log_summary, tracked
from xrayexp.tracking.record import recorded
from xrayexp.tracking.run_folder import RunFolder, write_json
from xrayexp.tracking.summary import EvaluationSummary, TrainingSummary
from xrayexp.training.accuracy_gate import verdict_of
from xrayexp.training.callbacks import BestAdapter, FitTime, PredictionWriter
from xrayexp.training.checkpoint import AtomicCheckpointIO, ExactCheckpoint, latest_checkpoint
from xrayexp.training.feature_store import feature_store
from xrayexp.training.module import ReportModule
from xrayexp.training.progress import progress_callback
from xrayexp.training.stop import stopped_by_signals

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from transformers import PreTrainedModel

    from xrayexp.training.sampling import Sampling

CallbackT = TypeVar("CallbackT", bound=L.Callback)

log = logging.getLogger(__name__)


@stopped_by_signals()
def train(cfg: DictConfig, watchers: Sequence[L.Callback] = ()) -> TrainingSummary:
    """Fine-tunes an adapter and evaluates the best one.

    Args:
        cfg: the composed config of conf/train.yaml.
        watchers: callbacks beside those of the config, of a caller that follows the training.

    Returns:
        The summary, also written to the run folder.

    Raises:
        UserError: for whatever the user can fix, before anything slow wherever possible.
    """
    quiet_libraries()
    settings = Settings.from_config(cfg)
    settings.require_training()
    require(settings.requirements())
    settings, plan = checked(settings)
    run, checkpoint = _run_folder(settings)
    with recorded(run, settings.cfg, own_overrides(), checkpoint):
        log.info("run folder: %s", run.path)
        if settings.test:
            settings.metrics.announce_missing()
        return _train(settings, run, checkpoint, plan, watchers)


def _run_folder(settings: Settings) -> tuple[RunFolder, Path | None]:
    """The folder, new or that of a run to go on with, and in the latter case its newest checkpoint."""
    if settings.resume is None:
        if settings.init_from is not None:
            require_adapter(Path(settings.init_from))
        return RunFolder.new(Path(settings.cfg["paths"]["output_dir"])), None
    run = RunFolder.open(Path(settings.resume))
    require_same_run(run, settings.cfg)
    return run, latest_checkpoint(run.checkpoints)


def _train(
    settings: Settings, run: RunFolder, checkpoint: Path | None, plan: Plan | None, watchers: Sequence[L.Callback]
) -> TrainingSummary:
    _use_threads(settings)
    L.seed_everything(settings.seed, verbose=False)
    data = data_module(settings, run.quarantine_file)
    data.check_training_set()
    data.follow_curriculum(settings.curriculum, settings.trainer.total_steps)
    write_splits(run, data)
    loggers = settings.loggers()
    with tracked(loggers, settings.cfg):
        best = BestAdapter(run.checkpoints, settings.trainer.monitor)
        trainer = _training_trainer(settings, run, [best, *watchers], data.batches_per_epoch, loggers)
        module = _training_module(settings, data)
        summary = _fit(settings, run, trainer, module, data, best, checkpoint)
        if plan is not None:
            write_json(run.plan_file, plan.to_json())
            summary = replace(summary, predicted_memory_gib=plan.forecast.worst.allocated)
        write_json(run.summary_file, summary.to_json())
        if settings.test:
            restore_adapter(module.model, run.adapter("best"))  # type: ignore[arg-type]
            evaluation = _test(trainer, module, data, run.evaluation("test", "best"), settings.metrics)
            summary = replace(summary, evaluation=evaluation)
        log_summary(loggers, summary.to_log(), summary.steps)
        log_adapter(loggers, run.adapter("best"))
    return summary


@stopped_by_signals()
def evaluate(cfg: DictConfig) -> EvaluationSummary | BaselineTable:
    """Evaluates a run on one split of its data or of others, predictions that are there, or a model as it is.

    Args:
        cfg: the composed config of conf/evaluate.yaml.

    Returns:
        The summary; predictions.jsonl, metrics.json and the table are in its folder.

    Raises:
        UserError: for whatever the user can fix, before anything slow wherever possible.
    """
    quiet_libraries()
    request = Request.from_config(cfg)
    request.metrics.announce_missing()
    if request.predictions is not None:
        return evaluate_predictions(request)
    if request.pretrained is not None:
        return evaluate_model(request)
    assert request.run is not None
    run = RunFolder.open(request.run)
    if request.baseline is not None:
        return beside_baselines(request, run, lambda checkpoint: _evaluate_run(request, run, checkpoint))
    return _evaluate_run(request, run, request.checkpoint)


def _evaluate_run(request: Request, run: RunFolder, checkpoint: str) -> EvaluationSummary:
    """Asks one checkpoint of a run about a split of its data or of others."""
    data_root = request.data_root if request.data is None else None  # it is in the data's config already
    here = moved(config_of(run), batch_size=request.batch_size, accelerator=request.accelerator, data_root=data_root)
    folder, subject = run.evaluation(request.asked, checkpoint), None
    if request.data is not None:
        section, data_config = request.data
        here = on_other_data(here, data_config)
        subject = f"{run.path}, checkpoint={checkpoint}, on {section.name} ({request.split})"
    settings = Settings.from_config(here)
    writer = PredictionWriter(folder)
    parts = _trained_parts(run, settings, request.split, checkpoint, folder, [writer], request.sampling)
    return _test(*parts, folder, request.metrics, checkpoint, subject)


@stopped_by_signals()
def measure_losses(
    folder: Path,
    checkpoint: str = "best",
    *,
    batch_size: int | None = None,
    accelerator: str | None = None,
    data_root: str | None = None,
) -> Path:
    """Computes a run's loss on each of its training images, with training's own encoder and loss, nothing augmented.

    Args:
        folder: of the run.
        checkpoint: one of `CHECKPOINTS`.
        batch_size: samples that go through the model together; None for the run's `eval_batch_size`.
        accelerator: None for the run's.
        data_root: folder of the data set on this machine; None for the run's.

    Returns:
        The file for `curriculum.difficulty.losses`.

    Raises:
        UserError: for whatever the user can fix, before anything slow wherever possible.
    """
    quiet_libraries()
    run = RunFolder.open(folder)
    here = moved(config_of(run), batch_size=batch_size, accelerator=accelerator, data_root=data_root)
    settings = Settings.from_config(here)
    trainer, module, data = _trained_parts(run, settings, TRAIN, checkpoint, run.evaluation(TRAIN, checkpoint), [])
    batches: Any = trainer.predict(module, datamodule=data)
    file = run.losses_file(checkpoint)
    write_losses(file, {image_id: loss for batch in batches for image_id, loss in batch.items()})
    return file


def _trained_parts(
    run: RunFolder,
    settings: Settings,
    split: str,
    checkpoint: str,
    folder: Path,
    callbacks: list[L.Callback],
    sampling: Sampling | None = None,
) -> tuple[L.Trainer, ReportModule, ReportDataModule]:
    """Trainer, module and data of a run that was trained, to ask it about one split."""
    if checkpoint != "none":
        require_adapter(run.adapter(checkpoint))
    require(settings.requirements(logged=False))
    _use_threads(settings)
    quarantine = folder / QUARANTINE
    quarantine.unlink(missing_ok=True)  # of an earlier evaluation
    data = data_module(settings, quarantine, evaluated_split=split, splits=[split])
    if split != TRAIN and run.splits_file.exists():
        check_not_trained_on(pd.read_parquet(run.splits_file), data.splits[split], split)
    base = _base_model(settings)
    model = base if checkpoint == "none" else load_adapter(base, run.adapter(checkpoint))
    module = ReportModule(
        model,
        data.encoder,
        settings.trainer,
        max_new_tokens=settings.model.max_new_tokens,
        judge=judge(data.source, data.section),
        sampling=sampling,
    )
    return _trainer(settings, run, callbacks, logger=False, enable_checkpointing=False), module, data


def _use_threads(settings: Settings) -> None:
    if settings.trainer.num_threads is not None:
        torch.set_num_threads(settings.trainer.num_threads)


def _base_model(settings: Settings) -> PreTrainedModel:
    log.info("loading %s, quantization %s", settings.model.pretrained, settings.quantization.name)
    return load_model(
        settings.model.pretrained,
        quantization=settings.quantization_config(),
        dtype=settings.trainer.dtype,
        device=settings.trainer.device,
        attention=settings.model.attention,
    )


def _training_module(settings: Settings, data: ReportDataModule) -> ReportModule:
    total_steps = settings.trainer.total_steps(data.batches_per_epoch)
    model = attach_adapter(_base_model(settings), settings.adapter, total_steps)
    if settings.init_from is not None and settings.resume is None:
        restore_adapter(model, Path(settings.init_from))
    if settings.trainer.gradient_checkpointing:
        enable_gradient_checkpointing(base_model(model), settings.trainer.checkpointed_layers)
    if settings.trainer.compile:
        compile_decoder_layers(base_model(model))
    model.train()  # transformers loads models in evaluation mode, where dropout does nothing
    images = [example.image_id for example in data.splits[TRAIN]]
    features = feature_store(base_model(model), settings.trainer, Path(settings.data.cache_dir).expanduser(), images)
    return ReportModule(
        model,
        data.encoder,
        settings.trainer,
        optimizer=settings.optimizer(),
        scheduler=settings.scheduler(),
        max_new_tokens=settings.model.max_new_tokens,
        seed=settings.seed,
        features=features,
        judge=judge(data.source, data.section),
    )


def _training_trainer(
    settings: Settings, run: RunFolder, callbacks: list[L.Callback], batches_per_epoch: int, loggers: list[Logger]
) -> L.Trainer:
    section, steps = settings.trainer, settings.trainer.validate_every
    checkpoints = ExactCheckpoint(run.checkpoints, section.checkpoint_every, section.checkpoint_minutes)
    writer = PredictionWriter(run.evaluation("test", "best"))
    return _trainer(
        settings,
        run,
        [*callbacks, FitTime(), writer, *settings.callbacks(), checkpoints],
        plugins=[AtomicCheckpointIO()],
        logger=loggers,
        max_steps=section.total_steps(batches_per_epoch),
        log_every_n_steps=section.log_every,
        # An interval in steps counts across epochs.
        val_check_interval=steps,
        check_val_every_n_epoch=1 if steps is None else None,
        num_sanity_val_steps=0,
    )


def _fit(
    settings: Settings,
    run: RunFolder,
    trainer: L.Trainer,
    module: ReportModule,
    data: ReportDataModule,
    best: BestAdapter,
    checkpoint: Path | None,
) -> TrainingSummary:
    trainable, total = trainable_parameters(module.model)
    layers = adapted_layers(module.model)  # type: ignore[arg-type]
    counts = f"{trainable:,} of {total:,} parameters"
    log.info("adapter %s on %s (%s): %s are trained", settings.adapter.name, settings.adapter.target, layers, counts)
    facts = {"trainable_parameters": trainable, "total_parameters": total, "adapted_layers": layers}
    log_facts(trainer.loggers, facts)
    forget_peak(settings.trainer.device)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if best.validated_step not in (None, trainer.global_step):
        # The last steps, at the lowest learning rate, deserve their chance to be the best.
        trainer.validate(module, datamodule=data, verbose=False)
    time, checkpoints = _callback(trainer, FitTime), _callback(trainer, ExactCheckpoint)
    return TrainingSummary(
        folder=run.path,
        model=settings.model.name,
        data=settings.data.name,
        adapter=settings.adapter.name,
        trainable_parameters=trainable,
        total_parameters=total,
        steps=trainer.global_step,
        monitor=settings.trainer.monitor,
        best_score=best.best_score,
        best_step=best.best_step,
        fit_seconds=time.seconds,
        fit_cpu_seconds=time.cpu_seconds,
        checkpoint_seconds=max(checkpoints.seconds, default=None),
        halved=tuple(module.halved),
        synthetic_share=data.partition.synthetic_share,
        broken_images=len(data.quarantine),
        not_good=verdict_of(trainer),
        peak_memory_gib=peak_memory_gib(settings.trainer.device),
    )


def _callback(trainer: L.Trainer, kind: type[CallbackT]) -> CallbackT:
    """The trainer's callback of one kind."""
    [found] = [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]
    return found


def _test(
    trainer: L.Trainer,
    module: ReportModule,
    data: ReportDataModule,
    folder: Path,
    section: MetricsSection,
    checkpoint: str = "best",
    subject: str | None = None,
) -> EvaluationSummary:
    """Generates and scores the data module's evaluated split; predictions are written as they come."""
    trainer.test(module, datamodule=data, verbose=False)
    about = {
        "folder": folder,
        "split": data.evaluated_split,
        "checkpoint": checkpoint,
        "subject": subject,
        "broken_images": data.quarantine.count(data.evaluated_split),
    }
    training = data.partition.examples[TRAIN]
    return write_scores(module.scored(), section, about, finding_shares(training) if training else None)


def _trainer(settings: Settings, run: RunFolder, callbacks: list[L.Callback], **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator=settings.trainer.accelerator,
        devices=1,
        precision=settings.trainer.precision,  # type: ignore[arg-type]
        default_root_dir=run.path,
        callbacks=[progress_callback(), *callbacks],
        enable_model_summary=False,
        **options,
    )
