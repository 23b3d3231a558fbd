"""The pipeline with all its loggers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xrayexp import pipeline
from xrayexp.errors import UserError
from xrayexp.tracking.dashboard import DashboardRequest, build
from xrayexp.tracking.finding_scores import finding_key, frequent_findings

if TYPE_CHECKING:
    from tests.tracking.conftest import OfflineRun

Compose = Callable[..., DictConfig]

pytestmark = pytest.mark.usefixtures("logged_out")


def test_a_training_can_be_found_by_what_it_was(
    compose: Compose, small: Sequence[str], offline_runs: Callable[[Path], list[OfflineRun]]
) -> None:
    cfg = compose(*small, "logger=[csv,tensorboard,wandb]", "logger.wandb.log_adapter=true", "test=true")
    summary = pipeline.train(cfg)
    (run,) = offline_runs(summary.folder)
    assert run.exit_code == 0
    assert run.config["adapter"]["peft"]["r"] == cfg.adapter.r
    flat = {
        "model_name": "tiny",
        "data_name": "phantom",
        "adapter_name": "lora",
        "adapter_r": cfg.adapter.r,
        "lr": cfg.optimizer.lr,
        "target": cfg.adapter.target,
        "seed": cfg.seed,
        "trainable_parameters": summary.trainable_parameters,
        "total_parameters": summary.total_parameters,
    }
    assert flat.items() <= run.config.items()
    assert summary.evaluation is not None
    assert run.summary["test/exact_match"] == summary.evaluation.metrics.headline("exact_match")
    assert run.summary[summary.monitor] == summary.best_score
    frequent = frequent_findings([summary.folder])
    assert frequent
    known = {score.name: score.f1.value for score in summary.evaluation.metrics.findings}
    assert {finding_key("test", name): known[name] for name in frequent}.items() <= run.summary.items()
    written = json.loads((summary.folder / "summary.json").read_text())
    facts = {name: value for name, value in written.items() if isinstance(value, float | int | str)}
    assert facts.items() <= run.summary.items()
    for kind, keys in shown_on_the_dashboard(summary.folder).items():
        logged = {"config": [run.config], "summary": [run.summary], "history": run.history}[kind]
        assert keys
        assert keys <= {key for row in logged for key in row}
    private = str(summary.folder).encode()
    assert not any(private in path.read_bytes() for path in run.files() if path.suffix != ".wandb")


def shown_on_the_dashboard(folder: Path) -> dict[str, set[str]]:
    """The keys that the W&B workspace asks for, by where it looks for them."""
    asked = DashboardRequest("chest", None, "val/micro_f1", None, folder, folder / "dashboard.json", save=False)
    build(asked)
    text = asked.out.read_text(encoding="utf-8")
    sections = json.loads(text)["section"]["panelBankConfig"]["sections"]
    panels = [(panel["viewType"], panel["config"]) for section in sections for panel in section["panels"]]
    lines = [config for kind, config in panels if kind == "Run History Line Plot"]
    bars = [config for kind, config in panels if kind == "Bar Chart"]
    grouped = {one["groupBy"].removesuffix(".value") for one in (*lines, *bars)}
    return {
        "config": {*re.findall(r'"config:([^"]+)\.value"', text), *grouped},
        "summary": {*re.findall(r'"summary:([^"]+)"', text), *(key for one in bars for key in one["metrics"])},
        "history": {key for one in lines for key in (one["xAxis"], *one["metrics"])},
    }


def test_everything_about_one_optimiser_step_has_its_number(
    compose: Compose, small: Sequence[str], offline_runs: Callable[[Path], list[OfflineRun]]
) -> None:
    """In all loggers, also for the validation that follows the last step."""
    steps = ("trainer.max_steps=3", "trainer.validate_every=2", "model.max_new_tokens=4")
    summary = pipeline.train(compose(*small, *steps, "logger=[csv,tensorboard,wandb]"))
    (run,) = offline_runs(summary.folder)
    events = EventAccumulator(str(summary.folder / "tensorboard")).Reload()
    with (summary.folder / "logs" / "metrics.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    for name, expected in {"train/loss": [1, 2, 3], "memory/rss_gib": [1, 2, 3], "val/micro_f1": [2, 3]}.items():
        assert [int(row["step"]) for row in table if row[name]] == expected
        assert [row["trainer/global_step"] for row in run.history if name in row] == expected
        assert [event.step for event in events.Scalars(name)] == expected
    tables = [row for row in run.history if any(key.startswith("examples") for key in row)]
    assert [row["trainer/global_step"] for row in tables] == [2, 3]
    assert [float(row["epoch"]) for row in table if row["train/loss"]] == [1 / 8, 2 / 8, 3 / 8]
    assert sorted(page.name for page in (summary.folder / "samples").iterdir()) == [
        "step-00000002.html", "step-00000003.html"
    ]  # fmt: skip


def test_a_training_that_fails_ends_its_run(
    compose: Compose,
    small: Sequence[str],
    offline_runs: Callable[[Path], list[OfflineRun]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*parts: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_fit", interrupted)
    cfg = compose(*small, "logger=wandb")
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(cfg)
    (run,) = offline_runs(Path(cfg.paths.output_dir))
    assert run.exit_code == 130


def test_a_logger_that_cannot_start_is_heard_of_before_the_model_is_loaded(
    compose: Compose, small: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "load_model", lambda *given, **options: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match="needs a login"):
        pipeline.train(compose(*small, "logger=wandb", "logger.wandb.mode=online"))
