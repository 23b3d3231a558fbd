"""One trial of a sweep, in the process of its job: trains as train.py does, and says in numbers how it ended."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from xrayexp import pipeline
from xrayexp.checks import require
from xrayexp.errors import ConfigError
from xrayexp.memory.measure import peak_memory_gib
from xrayexp.messages import explain
from xrayexp.planning import Planner
from xrayexp.quiet import quiet_libraries
from xrayexp.search.job import Outcome, TrialJob, job_folder
from xrayexp.settings import Settings
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.summary import TrainingSummary
from xrayexp.training.module import OutOfMemoryError
from xrayexp.training.pruning import Pruning

log = logging.getLogger(__name__)

# Of a dead trial's folder: its own way of being known, and what a run writes anew.
NOT_COPIED = (".hydra", ".lock", "wandb", "evaluation", "*.log", "outcome.json", "run.json")


def run_trial(cfg: DictConfig, job: TrialJob) -> dict[str, Any]:
    """Trains with a trial's config.

    Args:
        cfg: composed.
        job: which trial it is.

    Returns:
        `Outcome` as plain values. What ends the process, a signal above all, is no outcome.
    """
    with job.held():
        outcome = _outcome(cfg, job)
        job.write(outcome)
    return outcome.to_json()


def check(cfg: DictConfig) -> None:
    """Passes when a config can be trained here.

    Raises:
        UserError: it cannot.
    """
    quiet_libraries()
    settings = Settings.from_config(cfg)
    settings.require_training()
    require(settings.requirements())


def over_budget(cfg: DictConfig) -> float:
    """What a training is predicted to need beyond `memory.budget_gib`, in GiB; 0 or less where it may fit.

    Raises:
        UserError: there is no budget, or nothing can be predicted of this config.
    """
    settings = Settings.from_config(cfg)
    if settings.memory.budget_gib is None:
        raise ConfigError(["search.constraints.memory_gib needs memory=budget_12gb, or another memory.budget_gib"])
    return Planner(settings).forecast(settings).excess_gib(settings.memory.budget_gib)


def _outcome(cfg: DictConfig, job: TrialJob) -> Outcome:
    with _left_clean():
        try:
            return _trained(cfg, job)
        except (OutOfMemoryError, torch.OutOfMemoryError) as error:
            log.exception("trial %d is out of memory", job.number)
            return _out_of_memory(cfg, error)
        except Exception as error:  # whatever it is: one bad trial must not end the sweep
            log.exception("trial %d failed", job.number)
            return Outcome("failed", reason=_line(error))


def _trained(cfg: DictConfig, job: TrialJob) -> Outcome:
    watchers = []
    pruning: Pruning | None = None
    if job.pruner is not None:
        from xrayexp.search.report import Reporter

        pruning = Pruning(cfg.trainer.monitor, Reporter(job).report)
        watchers = [pruning]
    summary = pipeline.train(_continued(cfg, job), watchers)
    results = _numbers(summary)
    if pruning is not None and pruning.pruned_at is not None:
        return Outcome("pruned", results, f"pruned at step {pruning.pruned_at}")
    return Outcome("complete", results)


def _continued(cfg: DictConfig, job: TrialJob) -> DictConfig:
    """The config, which goes on from a dead trial's latest checkpoint where there is one; its folder stays as it is."""
    if job.retry_of is None:
        return cfg
    dead, here = RunFolder(job_folder(Path(job.sweep), job.retry_of)), Path(cfg.paths.output_dir)
    if not any(dead.checkpoints.glob("step-*.ckpt")):
        return cfg
    shutil.copytree(dead.path, here, ignore=shutil.ignore_patterns(*NOT_COPIED), dirs_exist_ok=True)
    log.info("trial %d goes on from the checkpoint of trial %d", job.number, job.retry_of)
    with open_dict(cfg):
        cfg.resume = str(here)
    return cfg


def _numbers(summary: TrainingSummary) -> dict[str, float]:
    """The numbers of the summary, the validation metric under its own name."""
    found = {
        summary.monitor: summary.best_score,
        **{name: getattr(summary, name) for name in (
            "peak_memory_gib", "predicted_memory_gib", "fit_seconds", "fit_cpu_seconds", "steps",
            "trainable_parameters")},
    }  # fmt: skip
    return {name: float(value) for name, value in found.items() if value is not None and value == value}  # not NaN


def _out_of_memory(cfg: DictConfig, error: BaseException) -> Outcome:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak = peak_memory_gib(device)
    budget = OmegaConf.select(cfg, "memory.budget_gib")
    excess = 0.0 if budget is None else max(0.0, peak - float(budget))
    return Outcome("out_of_memory", {"peak_memory_gib": peak}, _line(error), excess)


def _line(error: BaseException) -> str:
    message = explain(error) or f"{type(error).__name__}: {error}"
    return " ".join(message.split())


@contextmanager
def _left_clean() -> Iterator[None]:
    """Frees what a trial held before the next one begins in this process."""
    try:
        yield
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
