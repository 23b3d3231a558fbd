"""`evaluate.py run=RUN baseline=all`: the run, its base model and what needs no model, in one table."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from tests.conftest import Compose
from xrayexp import pipeline
from xrayexp.compare import CompareRequest, compare
from xrayexp.data.examples import examples_from_table
from xrayexp.data.phantom import PhantomSource
from xrayexp.errors import ConfigError
from xrayexp.metrics.predictions import read_predictions
from xrayexp.tracking.baseline_table import BaselineTable
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.summary import TrainingSummary

MODEL_FREE = ("majority", "prior", "nearest")


@pytest.fixture(scope="module")
def run(trained_run: TrainingSummary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shared run, to write into."""
    copy = tmp_path_factory.mktemp("baselines") / "run"
    shutil.copytree(trained_run.folder, copy)
    return copy


@pytest.fixture(scope="module")
def table(run: Path, compose: Compose) -> BaselineTable:
    found = pipeline.evaluate(compose(f"run={run}", "baseline=all", "metrics.bootstrap=50", config="evaluate"))
    assert isinstance(found, BaselineTable)
    return found


def test_all_stand_beside_the_run_on_the_same_images(run: Path, table: BaselineTable) -> None:
    assert list(table.scores) == ["run (best)", "base model", *MODEL_FREE]
    evaluation = run / "evaluation"
    own = [report.image_id for report in read_predictions(evaluation / "test" / "predictions.jsonl")]
    for name, scores in table.scores.items():
        assert scores.images == len(own) == 16, name
    for name in (*MODEL_FREE, "none"):
        reports = read_predictions(evaluation / f"test_{name}" / "predictions.jsonl")
        assert sorted(report.image_id for report in reports) == sorted(own)
    rows = list(csv.DictReader((evaluation / "test_baselines" / "table.csv").open()))
    nearest = json.loads((evaluation / "test_nearest" / "metrics.json").read_text())["metrics"]["micro_f1"]
    [row] = [row for row in rows if (row["metric"], row["of"]) == ("micro_f1", "nearest")]
    assert [float(row[key]) for key in ("value", "low", "high")] == pytest.approx(list(nearest.values())[:3], rel=1e-4)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    assert "base model" in capture.get()
    assert f"{table.scores['majority'].headline('micro_f1'):.3f}" in capture.get()
    assert "majority" in (evaluation / "test_baselines" / "table.txt").read_text()


def test_baselines_say_what_the_training_split_says(run: Path, table: BaselineTable, cfg: DictConfig) -> None:
    splits = pd.read_parquet(RunFolder(run).splits_file).set_index("ImageID")["split"]
    source = instantiate(cfg.data.source, _convert_="all")
    training = [e for e in examples_from_table(source.table()) if splits.get(e.image_id) == "train"]
    assert len(training) == 64
    times = Counter(example.findings for example in training)
    for name in MODEL_FREE:
        reports = read_predictions(run / "evaluation" / f"test_{name}" / "predictions.jsonl")
        said = {report.predicted.findings for report in reports if report.predicted}
        assert said <= times.keys(), name
        if name == "majority":
            assert [times[findings] for findings in said] == [max(times.values())]


@pytest.fixture(scope="module")
def cfg(compose: Compose, small: Any) -> DictConfig:
    return compose(*small)


def test_truths_of_the_test_split_change_nothing(run: Path, table: BaselineTable, compose: Compose, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """With other truths in the test split, every baseline says the same; only its scores differ."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    asked = {r.image_id for r in read_predictions(copy / "evaluation" / "test" / "predictions.jsonl")}
    original = PhantomSource.table

    def falsified(self: PhantomSource) -> Any:
        rows = original(self)
        tested = rows["ImageID"].isin(asked)
        sentences = rows.columns[rows.columns.str.contains("Sentence")][0]
        rows.loc[tested, sentences] = "[['scoliosis']]"
        return rows

    monkeypatch.setattr(PhantomSource, "table", falsified)
    pipeline.evaluate(compose(f"run={copy}", "baseline=all", "baseline.base_model=false", "metrics.bootstrap=0",
                              config="evaluate"))  # fmt: skip
    for name in MODEL_FREE:
        before, after = (
            {r.image_id: r for r in read_predictions(r_ / "evaluation" / f"test_{name}" / "predictions.jsonl")}
            for r_ in (run, copy)
        )
        assert {i: r.predicted for i, r in before.items()} == {i: r.predicted for i, r in after.items()}
        assert {i: r.truth for i, r in before.items()} != {i: r.truth for i, r in after.items()}


def test_a_baseline_is_compared_like_a_checkpoint(run: Path, table: BaselineTable, tmp_path: Path) -> None:
    found = compare(
        CompareRequest([str(run / "evaluation" / "test_majority"), str(run)], tmp_path, resamples=20, draws=20)
    )
    assert found.view is not None
    assert [one.checkpoint for one in found.view.runs] == ["majority", "best"]
    assert found.sheet is None, "it is one run"


def test_a_baseline_needs_a_run(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="baseline is made of a run's training split"):
        pipeline.evaluate(compose(f"predictions={tmp_path}", "baseline=prior", config="evaluate"))
