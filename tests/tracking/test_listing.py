"""`xrayexp runs` finds runs wherever they lie below a folder and says where they stand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from xrayexp.cli import main
from xrayexp.errors import DataError
from xrayexp.tracking.listing import find_runs
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.summary import TrainingSummary


@pytest.fixture
def runs(trained_run: TrainingSummary, tmp_path: Path) -> Path:
    """A finished run, and one below a sweep's folder that was killed: it has a log and no summary."""
    for name in ("finished", "sweep/0"):
        shutil.copytree(trained_run.folder, tmp_path / name)
    killed = RunFolder(tmp_path / "sweep" / "0")
    killed.summary_file.unlink()
    record = json.loads(killed.record_file.read_text())
    record["starts"][0]["started"] = "2020-01-31T12:00:00+00:00"
    killed.record_file.write_text(json.dumps(record | {"state": "running"}))
    return tmp_path


def test_runs_are_found_with_their_state_and_numbers(runs: Path, trained_run: TrainingSummary) -> None:
    killed, finished = find_runs(runs)
    assert [killed.folder, finished.folder] == [runs / "sweep" / "0", runs / "finished"]  # by date
    assert (finished.state, finished.step, finished.best) == ("finished", 30, trained_run.best_score)
    assert (finished.adapter, finished.rank, finished.lr) == ("lora", 16, 0.004)
    assert finished.memory_gib == trained_run.peak_memory_gib
    assert (killed.state, killed.seconds) == ("killed", None)
    assert killed.best == pytest.approx(finished.best)
    assert killed.step == 30


def test_a_finished_run_that_goes_on_is_where_its_log_is(runs: Path) -> None:
    """The summary is that of the first part."""
    run = RunFolder(runs / "finished")
    run.record_file.write_text(json.dumps(json.loads(run.record_file.read_text()) | {"state": "stopped"}))
    summary = json.loads(run.summary_file.read_text())
    run.summary_file.write_text(json.dumps(summary | {"steps": 20, "best_score": 0.0}))
    [_, line] = find_runs(runs)
    assert (line.state, line.step, line.seconds) == ("stopped", 30, None)
    assert line.best is not None
    assert line.best > 0


def test_the_command_lists_them(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs)]) == 0
    shown = capsys.readouterr().out
    assert "finished" in shown
    assert "killed" in shown
    assert "best: val/micro_f1" in shown


def test_a_run_below_the_gate_is_marked(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = RunFolder(runs / "finished").summary_file
    file.write_text(json.dumps(json.loads(file.read_text()) | {"not_good": "val/micro_f1 0.310 < 0.5 at step 30"}))
    assert main(["runs", str(runs)]) == 0
    assert "not good" in capsys.readouterr().out


def test_a_run_without_a_score_is_no_best_one(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "sweep" / "0" / "logs" / "metrics.csv").unlink()
    assert main(["runs", str(runs), "--sort", "best"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("killed") < shown.index("finished")


def test_no_runs_and_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no run in" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    with pytest.raises(DataError):
        find_runs(tmp_path / "nowhere")
