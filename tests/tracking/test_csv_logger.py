from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger as LightningsCsvLogger

from xrayexp.errors import UserError
from xrayexp.tracking.csv_logger import CsvLogger


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def losses(folder: Path) -> list[tuple[int, str]]:
    return [(int(row["step"]), row["loss"]) for row in rows(folder)]


def test_the_same_table_as_lightnings(tmp_path: Path, fit: Callable[..., L.Trainer]) -> None:
    loggers = [CsvLogger(tmp_path / "ours"), LightningsCsvLogger(tmp_path, name="lightnings", version="")]
    fit(loggers)
    ours, lightnings = (tmp_path / name / "metrics.csv" for name in ("ours", "lightnings"))
    assert len(rows(ours.parent)) == 8
    assert ours.read_bytes() == lightnings.read_bytes()


def test_another_process_continues_and_replaces_what_it_repeats(tmp_path: Path) -> None:
    first = CsvLogger(tmp_path)
    for step in range(6):
        first.log_metrics({"loss": step / 10}, step)
    second = CsvLogger(tmp_path)
    second.log_metrics({"loss": 0.03}, 3)
    assert losses(tmp_path) == [(0, "0.0"), (1, "0.1"), (2, "0.2"), (3, "0.03")]
    second.log_metrics({"loss": 0.04}, 4)
    second.log_metrics({"val/loss": 1.0}, 4)
    assert losses(tmp_path) == [(0, "0.0"), (1, "0.1"), (2, "0.2"), (3, "0.03"), (4, "0.04"), (4, "")]


@pytest.mark.parametrize("continued", [False, True])
def test_a_new_column(tmp_path: Path, continued: bool) -> None:
    logger = CsvLogger(tmp_path)
    logger.log_metrics({"loss": 0.5}, 0)
    if continued:
        logger = CsvLogger(tmp_path)
    logger.log_metrics({"loss": torch.tensor(0.25), "accuracy": 1}, 1)
    logger.log_metrics({"loss": 0.125}, 2)
    assert rows(tmp_path) == [
        {"accuracy": "", "loss": "0.5", "step": "0"},
        {"accuracy": "1", "loss": "0.25", "step": "1"},
        {"accuracy": "", "loss": "0.125", "step": "2"},
    ]


def test_a_column_that_is_not_logged_again_stays(tmp_path: Path) -> None:
    CsvLogger(tmp_path).log_metrics({"loss": 1.0, "old": 2.0}, 0)
    CsvLogger(tmp_path).log_metrics({"loss": 0.5}, 1)
    assert rows(tmp_path)[0] == {"loss": "1.0", "old": "2.0", "step": "0"}
    assert rows(tmp_path)[1] == {"loss": "0.5", "old": "", "step": "1"}


def test_nothing_before_the_first_row(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "logs")
    logger.log_hyperparams({"r": 8})
    logger.save()
    logger.finalize("success")
    assert not (tmp_path / "logs").exists()


def test_a_row_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    CsvLogger(tmp_path).log_metrics({"loss": 0.5}, 0)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("0.123,1")  # would have been 10
    CsvLogger(tmp_path).log_metrics({"loss": 0.25}, 10)
    assert losses(tmp_path) == [(0, "0.5"), (10, "0.25")]


def test_another_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("name,value\nloss,1\n")
    with pytest.raises(UserError, match=r"metrics\.csv cannot be continued"):
        CsvLogger(tmp_path).log_metrics({"loss": 0.5}, 0)
    assert (tmp_path / "metrics.csv").read_text() == "name,value\nloss,1\n"


def test_rows_without_a_step_count_on(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path)
    logger.log_metrics({"loss": 0.5}, 7)
    logger.log_metrics({"loss": 0.25})
    assert [step for step, _ in losses(tmp_path)] == [7, 8]
