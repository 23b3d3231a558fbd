"""The CSV log: every row at once, and a resumed run goes on with it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from xrayexp.tracking.csv_logger import CsvLogger


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A folder with rows of steps 0, 2, 4 and a validation at 4."""
    logger = CsvLogger(str(tmp_path / "logs"))
    for step in (0, 2, 4):
        logger.log_metrics({"loss": step / 10}, step)
    logger.log_metrics({"score": 0.5}, 4)
    return tmp_path / "logs"


def test_nothing_is_written_before_the_first_row(tmp_path: Path) -> None:
    CsvLogger(str(tmp_path / "logs"))
    assert not list(tmp_path.iterdir())


def test_rows_and_new_columns_are_on_disk_at_once(logged: Path) -> None:
    assert rows(logged) == [
        {"step": "0", "loss": "0.0", "score": ""},
        {"step": "2", "loss": "0.2", "score": ""},
        {"step": "4", "loss": "0.4", "score": ""},
        {"step": "4", "loss": "", "score": "0.5"},
    ]
    assert [file.name for file in logged.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("step, kept", [(6, 4), (5, 4), (4, 2), (3, 2), (2, 1), (0, 0)])
def test_a_resumed_run_replaces_the_steps_that_it_takes_again(logged: Path, step: int, kept: int) -> None:
    before = rows(logged)
    resumed = CsvLogger(str(logged))
    resumed.log_metrics({"loss": 9.0}, step)
    resumed.log_metrics({"loss": 8.0}, step)
    added = [{"step": str(step), "loss": loss, "score": ""} for loss in ("9.0", "8.0")]
    assert rows(logged) == [*before[:kept], *added]


def test_a_row_that_was_cut_off_by_a_kill_is_dropped(logged: Path) -> None:
    file = logged / "metrics.csv"
    file.write_text(file.read_text() + "5,0.")
    CsvLogger(str(logged)).log_metrics({"loss": 0.6}, 6)
    assert [row["step"] for row in rows(logged)] == ["0", "2", "4", "4", "6"]


def test_an_empty_file_is_gone_on_with(logged: Path) -> None:
    (logged / "metrics.csv").write_text("")
    CsvLogger(str(logged)).log_metrics({"loss": 0.6}, 6)
    assert rows(logged) == [{"step": "6", "loss": "0.6"}]
