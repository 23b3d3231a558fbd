"""Trials of a sweep as W&B runs, and the sweep as one more; all real, offline, and read back."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import wandb
from omegaconf import DictConfig, OmegaConf

from xrayexp.errors import Stopped
from xrayexp.search.results import SweepResults, TrialRecord
from xrayexp.settings import Settings
from xrayexp.tracking.loggers import tracked
from xrayexp.tracking.trial_context import VARIABLE, current_trial
from xrayexp.tracking.wandb_logger import WandbLogger
from xrayexp.tracking.wandb_sweep import log_sweep, summary, trial_table

if TYPE_CHECKING:
    from tests.tracking.conftest import OfflineRun

Compose = Callable[..., DictConfig]
OfflineRuns = Callable[[Path], "list[OfflineRun]"]

pytestmark = pytest.mark.usefixtures("logged_out")

CONFIG = {"adapter": {"name": "lora", "r": 8, "alpha": 16}, "scheduler": {"_target_": "a.cosine", "warmup": 0.05}}
STARTED, ENDED = "2026-01-01T12:00:00+00:00", "2026-01-01T12:01:30+00:00"


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder of trial 3 of the sweep "ranks", which this process works on."""
    sweep = tmp_path / "sweep"
    job = {"sweep": str(sweep), "name": "ranks", "number": 3, "storage": None, "pruner": {}, "retry_of": None}
    monkeypatch.setenv(VARIABLE, json.dumps(job))
    return sweep / "trials" / "3"


def record(number: int, score: float, gib: float, **changes: Any) -> TrialRecord:
    choices = {"adapter": "lora", "adapter.r": 4 * number, "optimizer.lr": 1e-3}
    results = {"val/micro_f1": score, "peak_memory_gib": gib, "fit_seconds": 80.0}
    values = {"val/micro_f1": score}
    known = {"overrides": choices, "values": values, "results": results, "started": STARTED, "ended": ENDED}
    return TrialRecord(number, "complete", **{**known, **changes})


@pytest.fixture
def results(tmp_path: Path) -> SweepResults:
    trials = [
        record(0, 0.25, 2.0),
        record(1, 0.75, 3.0, overrides={"adapter": "delora", "adapter.r": "all", "optimizer.lr": 1e-2}),
        TrialRecord(2, "infeasible", overrides={"adapter": "dora"}, reason="3 GiB above the budget", ended=ENDED),
        record(3, 0.5, 1.0),
        TrialRecord(4, "failed", overrides={"adapter": None}, reason="OSError: /srv/ward7/PadChest is gone"),
    ]
    fixed = ["data.cache_dir=/srv/ward7/PadChest", "seed=1"]
    return SweepResults(tmp_path / "sweep", "ranks", {"val/micro_f1": "maximize"}, 5, "TPE", "none", fixed, trials)


@pytest.fixture
def section(compose: Compose) -> Mapping[str, Any]:
    cfg = compose("logger=wandb", "logger.wandb.tags=[pilot]", "logger.wandb.project=chest", "adapter.r=8")
    found: Any = OmegaConf.to_container(cfg.logger.wandb, resolve=True)
    return dict(found)


def test_no_trial_elsewhere() -> None:
    assert current_trial() is None


def test_a_trial_is_grouped_tagged_and_numbered(trial: Path, compose: Compose, offline_runs: OfflineRuns) -> None:
    cfg = compose("logger=wandb", "logger.wandb.tags=[pilot]")
    (logger,) = Settings.from_config(cfg).loggers()
    with tracked([logger], CONFIG):
        pass
    (run,) = offline_runs(Path(cfg.paths.output_dir))
    assert (run.run["run_group"], run.run["job_type"]) == ("ranks", "trial")
    assert (run.run["display_name"], run.run["tags"]) == ("ranks/trial-3", ["pilot", "sweep"])
    flat = {"sweep": "ranks", "trial": 3, "adapter_alpha": 16, "scheduler_name": "a.cosine", "warmup": 0.05}
    assert flat.items() <= run.config.items()


def test_a_trial_that_is_stopped_leaves_a_finished_run_with_the_names_of_the_config(
    trial: Path, offline_runs: OfflineRuns
) -> None:
    logger = WandbLogger(trial, "chest", group="mine", job_type="probe", name="short")
    with pytest.raises(Stopped), tracked([logger], CONFIG):
        raise Stopped(signal.SIGTERM)
    assert wandb.run is None
    (run,) = offline_runs(trial)
    names = run.run["run_group"], run.run["job_type"], run.run["display_name"]
    assert (run.exit_code, *names) == (143, "mine", "probe", "short/trial-3")


def test_the_monitored_metric_stands_in_the_summary_with_its_best_value(
    tmp_path: Path, offline_runs: OfflineRuns
) -> None:
    logger = WandbLogger(tmp_path, "chest")
    with tracked([logger], CONFIG):
        for step, score in enumerate((0.5, 0.25)):
            logger.log_metrics({"val/micro_f1": score}, step)
        logger.log_summary({"monitor": "val/micro_f1", "best_score": 0.5}, 1)
    (run,) = offline_runs(tmp_path)
    assert run.summary["val/micro_f1"] == 0.5
    assert [row["val/micro_f1"] for row in run.history] == [0.5, 0.25]


def test_the_sweep_is_a_run_with_a_table_and_charts(
    results: SweepResults, section: Mapping[str, Any], offline_runs: OfflineRuns
) -> None:
    log_sweep(results, section)
    assert wandb.run is None
    (run,) = offline_runs(results.folder)
    names = [run.run[key] for key in ("project", "run_group", "job_type", "display_name", "tags")]
    assert names == ["chest", "ranks", "sweep", "ranks", ["pilot", "sweep"]]
    assert run.exit_code == 0
    assert (run.config["sampler"], run.config["fixed"]) == ("TPE", ["data.cache_dir=PadChest", "seed=1"])
    assert summary(results).items() <= run.summary.items()
    tables = {tuple(table["columns"]): table["data"] for table in written_tables(run)}
    columns, rows = trial_table(results)
    assert tables[tuple(columns)] == rows
    assert tables["step", "lineKey", "lineVal"] == [
        [0, "trial", 0.25], [1, "trial", 0.75], [3, "trial", 0.5],
        [0, "best so far", 0.25], [1, "best so far", 0.75], [3, "best so far", 0.75],
    ]  # fmt: skip
    assert tables["trial", "peak_memory_gib", "val/micro_f1"] == [[0, 2.0, 0.25], [1, 3.0, 0.75], [3, 1.0, 0.5]]
    charts = {key: chart for key, chart in run.config.items() if key.startswith("_wandb.visualize.")}
    assert {key.rpartition(".")[2]: chart["panel_config"]["panelDefId"] for key, chart in charts.items()} == {
        "progress": "wandb/lineseries/v0",
        "against_peak_memory_gib": "wandb/scatter/v0",
        "against_fit_seconds": "wandb/scatter/v0",
    }
    staging = str(results.folder / "wandb" / "data" / "artifacts" / "staging").encode()
    for path in run.files():
        content = path.read_bytes().replace(staging if path.suffix == ".wandb" else b"", b"")
        assert not any(word in content for word in (b"ward7", str(results.folder).encode()))


def written_tables(run: OfflineRun) -> list[dict[str, Any]]:
    contents = [json.loads(path.read_bytes()) for path in run.files() if path.suffix == ".json"]
    return [content for content in contents if "columns" in content]


def test_a_resumed_sweep_continues_its_run(
    results: SweepResults, section: Mapping[str, Any], offline_runs: OfflineRuns
) -> None:
    """Also one in which no trial had finished."""
    log_sweep(replace(results, trials=results.trials[4:]), section)
    log_sweep(results, section)
    first, second = offline_runs(results.folder)
    assert first.run["run_id"] == second.run["run_id"]
    assert first.summary["trials/failed"] == 1
    assert not [name for name in first.summary if name.startswith("best/")]
    assert second.summary["best/trial"] == 1


def test_the_table_of_trials(results: SweepResults) -> None:
    columns, rows = trial_table(results)
    assert columns == [
        "trial", "state", "val/micro_f1", "adapter", "adapter.r", "optimizer.lr", "peak_memory_gib", "fit_seconds",
        "seconds", "started", "reason",
    ]  # fmt: skip
    by_column = dict(zip(columns, zip(*rows, strict=True), strict=True))
    assert by_column["adapter"] == ("lora", "delora", "dora", "lora", None)
    assert by_column["adapter.r"] == ("0", "all", None, "12", None), "numbers and texts do not mix"
    assert by_column["val/micro_f1"] == (0.25, 0.75, None, 0.5, None)
    assert by_column["seconds"] == (90.0, 90.0, None, 90.0, None)
    assert by_column["reason"][4] == "OSError: PadChest is gone"


def test_several_objectives_mark_the_front(results: SweepResults) -> None:
    trials = [replace(trial, values=trial.results) for trial in results.in_state("complete")]
    several = replace(results, objectives={"val/micro_f1": "maximize", "peak_memory_gib": "minimize"}, trials=trials)
    columns, rows = trial_table(several)
    assert [row[columns.index("pareto")] for row in rows] == [False, True, True]
