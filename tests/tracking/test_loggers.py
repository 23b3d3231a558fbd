"""What every logger has in common: several run together, and tell the same."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger as LightningsCsvLogger
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xrayexp.checks import require
from xrayexp.errors import RequirementError
from xrayexp.settings import Settings
from xrayexp.tracking import checks
from xrayexp.tracking.csv_logger import CsvLogger
from xrayexp.tracking.loggers import log_facts, log_summary, tracked
from xrayexp.tracking.tensorboard_logger import TensorBoardLogger
from xrayexp.tracking.wandb_logger import WandbLogger

if TYPE_CHECKING:
    from tests.tracking.conftest import OfflineRun

Compose = Callable[..., DictConfig]
Fit = Callable[..., L.Trainer]

CONFIG = {"seed": 3, "adapter": {"name": "dora", "r": 16}, "paths": {"output_dir": "/srv/x"}}


def csv_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


@pytest.mark.usefixtures("logged_out")
def test_the_step_axes_agree(compose: Compose, fit: Fit, offline_runs: Callable[[Path], list[OfflineRun]]) -> None:
    cfg = compose("logger=[csv,tensorboard,wandb]")
    folder = Path(cfg.paths.output_dir)
    loggers = Settings.from_config(cfg).loggers()
    assert [type(logger) for logger in loggers] == [CsvLogger, TensorBoardLogger, WandbLogger]
    with tracked(loggers, CONFIG):
        fit(loggers)
        log_summary(loggers, {"best_score": 0.5}, step=6)
    table = csv_rows(folder / "logs" / "metrics.csv")
    (run,) = offline_runs(folder)
    for name, steps in (("train/loss", [0, 1, 2, 3, 4, 5]), ("val/loss", [2, 5])):
        in_table = [(int(row["step"]), float(row[name])) for row in table if row[name]]
        in_run = [(row["trainer/global_step"], row[name]) for row in run.history if name in row]
        assert [step for step, _ in in_table] == steps
        assert in_run == in_table
        in_events = scalars(folder / "tensorboard", name)
        assert [step for step, _ in in_events] == steps
        assert [value for _, value in in_events] == pytest.approx([value for _, value in in_table])


@pytest.mark.parametrize(
    "overrides, kinds",
    [
        ([], [CsvLogger]),
        (["logger=none"], []),
        (["~logger"], []),
        (["logger=tensorboard"], [TensorBoardLogger]),
        (["logger=[csv,wandb]"], [CsvLogger, WandbLogger]),
        (["logger=[csv,wandb]", "~logger.csv"], [WandbLogger]),
    ],
)
def test_any_number_of_loggers(compose: Compose, overrides: list[str], kinds: list[type[Logger]]) -> None:
    assert [type(logger) for logger in Settings.from_config(compose(*overrides)).loggers()] == kinds


def test_a_run_without_loggers() -> None:
    with tracked([], CONFIG):
        log_facts([], {"n": 1})
        log_summary([], {"n": 1}, step=0)


def test_tensorboard_has_config_and_summary_as_hyperparameters(
    tmp_path: Path, fit: Fit, names_host: Callable[[bytes], bool]
) -> None:
    loggers = [TensorBoardLogger(tmp_path)]
    with tracked(loggers, CONFIG):
        fit(loggers)
        log_facts(loggers, {"trainable_parameters": 12})
        log_summary(loggers, {"best_score": 0.5, "gate": "passed"}, step=6)
    found = events(tmp_path)
    assert scalars(tmp_path, "summary/best_score") == [(6, 0.5)]
    plugin: Any = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    for word in (b"adapter/name", b"dora", b"adapter_r", b"trainable_parameters"):
        assert word in plugin
    written = b"".join(path.name.encode() + path.read_bytes() for path in tmp_path.iterdir())
    assert b"/srv/x" not in written
    assert not names_host(written)


def test_tensorboard_continues_what_another_process_began(tmp_path: Path) -> None:
    for values in ({0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}, {2: 20.0, 3: 30.0}):
        logger = TensorBoardLogger(tmp_path)
        for step, value in values.items():
            logger.log_metrics({"loss": value}, step)
        logger.finalize("success")
    assert scalars(tmp_path, "loss") == [(0, 0.0), (1, 1.0), (2, 20.0), (3, 30.0)]


def test_a_logger_without_a_summary_gets_a_last_row(tmp_path: Path) -> None:
    loggers = [LightningsCsvLogger(tmp_path, name="", version="")]
    log_summary(loggers, {"best_score": 0.5, "gate": "passed"}, step=6)
    loggers[0].finalize("success")
    assert csv_rows(tmp_path / "metrics.csv") == [{"best_score": "0.5", "step": "6"}]


def test_our_table_gets_none(tmp_path: Path) -> None:
    """The run folder's summary.json has it."""
    loggers = [CsvLogger(tmp_path)]
    with tracked(loggers, CONFIG):
        log_summary(loggers, {"best_score": 0.5}, step=6)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("logger", ["tensorboard", "mlflow"])
def test_a_missing_package_is_said_before_the_run(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, logger: str
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    settings = Settings.from_config(compose(f"logger=[csv,{logger}]"))
    with pytest.raises(RequirementError, match=f"package {logger}.*\n.*pip install {logger}"):
        require(settings.requirements())
    names = {check.name for check in settings.requirements(logged=False)}  # as for an evaluation
    assert f"package {logger}" not in names


def test_an_installed_package_is_not_missed(compose: Compose) -> None:
    require(Settings.from_config(compose("logger=[csv,tensorboard]", "quantization=none")).requirements())
