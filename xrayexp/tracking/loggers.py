"""What the pipeline tells its loggers: the config at the start, facts as they become known, the summary at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from xrayexp.errors import Stopped
from xrayexp.tracking.public import public_config
from xrayexp.tracking.trial_context import current_trial

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

Facts = Mapping[str, float | str]

# Keys that stand beside the nested config as well, because W&B's tables and charts group by flat keys.
FLAT = {
    "model_name": ("model", "name"),
    "data_name": ("data", "name"),
    "quantization_name": ("quantization", "name"),
    "adapter_name": ("adapter", "name"),
    "adapter_r": ("adapter", "r"),
    "adapter_alpha": ("adapter", "alpha"),
    "target": ("adapter", "target"),
    "optimizer_name": ("optimizer", "_target_"),
    "lr": ("optimizer", "lr"),
    "weight_decay": ("optimizer", "weight_decay"),
    "scheduler_name": ("scheduler", "_target_"),
    "warmup": ("scheduler", "warmup"),
    "effective_batch_size": ("trainer", "effective_batch_size"),
}

INTERRUPTED = 130
FAILED = 1


@runtime_checkable
class RunLogger(Protocol):
    """A logger whose run has a beginning and an end of its own, on a server or in a process beside this one."""

    def start(self) -> None:
        """Begins the run."""
        ...

    def finish(self, exit_code: int) -> None:
        """Ends the run, also one that could not begin: 0 marks it as finished, anything else as failed."""
        ...


@runtime_checkable
class SummaryLogger(Protocol):
    """A logger with a place for facts of the whole run."""

    def log_summary(self, values: Facts, step: int) -> None:
        """Keeps the facts as they were at an optimiser step."""
        ...


@runtime_checkable
class AdapterLogger(Protocol):
    """A logger that can keep an adapter."""

    def log_adapter(self, folder: Path) -> None:
        """Keeps a copy of the adapter in `folder`, if the config asks for it."""
        ...


@contextmanager
def tracked(loggers: Sequence[Logger], config: Mapping[str, Any]) -> Iterator[None]:
    """Starts the loggers' runs and logs the public part of the config; ends the runs, whatever happens.

    In a trial, the sweep's name and the trial's number belong to the config.

    Enter it before anything slow, so that a logger which cannot start is heard of at once.

    Args:
        loggers: of the Trainer.
        config: resolved.

    Raises:
        UserError: when a logger cannot start.
    """
    with ExitStack() as runs:
        for logger in loggers:
            if isinstance(logger, RunLogger):
                runs.enter_context(_run(logger))
        public = public_config(config)
        log_facts(loggers, {**public, **_flat(public), **_trial()})
        yield


def log_facts(loggers: Sequence[Logger], facts: Mapping[str, Any]) -> None:
    """Adds to the logged config, e.g. the number of trainable parameters once the model is there."""
    for logger in loggers:
        logger.log_hyperparams(dict(facts))


def log_summary(loggers: Sequence[Logger], values: Facts, step: int) -> None:
    """Logs facts of the whole run where the logger has a place for them, and else its numbers as a last row.

    Args:
        loggers: of the Trainer.
        values: e.g. peak memory, best score, test metrics.
        step: the last optimiser step.
    """
    for logger in loggers:
        if isinstance(logger, SummaryLogger):
            logger.log_summary(values, step)
        else:
            numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
            logger.log_metrics(numbers, step)


def log_adapter(loggers: Sequence[Logger], folder: Path) -> None:
    """Hands an adapter's folder to the loggers that can keep it and are asked to."""
    for logger in loggers:
        if isinstance(logger, AdapterLogger):
            logger.log_adapter(folder)


@contextmanager
def _run(logger: RunLogger) -> Iterator[None]:
    exit_code = FAILED
    try:
        logger.start()
        yield
        exit_code = 0
    except KeyboardInterrupt:
        exit_code = INTERRUPTED
        raise
    except Stopped as stop:
        exit_code = stop.signal + 128
        raise
    finally:
        logger.finish(exit_code)


def _trial() -> dict[str, Any]:
    trial = current_trial()
    return {} if trial is None else {"sweep": trial.sweep, "trial": trial.number}


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flat keys that the config has: not every adapter has a rank."""
    return {name: config[section][key] for name, (section, key) in FLAT.items() if key in config.get(section, {})}
