"""`python evaluate.py run=...`: predictions, scores that follow from them, and any checkpoint of a run."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from xrayexp import pipeline
from xrayexp.data.examples import examples_from_table
from xrayexp.data.phantom import PhantomSource
from xrayexp.data.report import Finding, Report, parse_report, write_report
from xrayexp.errors import UserError
from xrayexp.metrics.predictions import read_predictions
from xrayexp.metrics.registry import metrics_of
from xrayexp.metrics.samples import per_sample
from xrayexp.metrics.scoring import score
from xrayexp.models.loading import load_processor
from xrayexp.settings import Settings
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.summary import EvaluationSummary, TrainingSummary

ROOT = Path(__file__).parents[2]
Compose = Callable[..., DictConfig]
FIELDS = {"image_id", "patient_id", "truth", "truth_text", "text", "predicted", "confidence", "token_ids", "log_probs",
          "scores"}  # fmt: skip


@pytest.fixture
def run(trained_run: TrainingSummary, tmp_path: Path) -> Path:
    """A copy of the shared run, to write into."""
    copy = tmp_path / "run"
    shutil.copytree(trained_run.folder, copy)
    return copy


def asked(cfg: DictConfig) -> EvaluationSummary:
    """What evaluate.py prints for one run without baselines."""
    summary = pipeline.evaluate(cfg)
    assert isinstance(summary, EvaluationSummary)
    return summary


def predictions(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def metrics(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return loaded


def report(findings: list[dict[str, Any]] | None) -> Report | None:
    if findings is None:
        return None
    return Report(tuple(Finding(finding["name"], tuple(finding["locations"])) for finding in findings))


@pytest.fixture(scope="module")
def evaluated(trained_run: TrainingSummary) -> Path:
    """The folder of the evaluation that ended training."""
    assert trained_run.evaluation is not None
    return trained_run.evaluation.folder


def test_the_command_repeats_the_evaluation_that_ended_training(run: Path, evaluated: Path, tmp_path: Path) -> None:
    """In a process of its own and in batches of another size: the same texts and the same scores."""
    shutil.rmtree(run / "evaluation")
    command = [sys.executable, str(ROOT / "evaluate.py"), "run=run", "batch_size=3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # nothing is written anywhere else
    assert "soft match" in done.stdout
    assert "Warning" not in done.stdout + done.stderr
    before, after = ({row["image_id"]: row for row in predictions(f)} for f in (evaluated, run / "evaluation" / "test"))
    assert before.keys() == after.keys()
    for image_id, row in before.items():
        assert after[image_id]["token_ids"] == row["token_ids"]
        assert after[image_id]["log_probs"] == pytest.approx(row["log_probs"], abs=1e-3)
        assert after[image_id]["scores"] == row["scores"]
    assert metrics(run / "evaluation" / "test") == metrics(evaluated)


def test_predictions_tell_truth_text_and_scores(trained_run: TrainingSummary, evaluated: Path) -> None:
    rows = predictions(evaluated)
    assert len(rows) == 16
    source = instantiate(OmegaConf.load(trained_run.folder / "config.yaml").data.source, _convert_="all")
    truths = {example.image_id: example for example in examples_from_table(source.table())}
    tokenizer = load_processor("pkg://xrayexp/models/tiny").tokenizer
    for row, scored in zip(rows, read_predictions(evaluated / "predictions.jsonl"), strict=True):
        assert set(row) == FIELDS
        example = truths[row["image_id"]]
        truth, predicted = report(row["truth"]), report(row["predicted"])
        assert truth == Report(example.findings)
        assert row["patient_id"] == example.patient_id
        assert predicted == parse_report(row["text"])
        assert row["text"] == tokenizer.decode(row["token_ids"], skip_special_tokens=True)
        assert len(row["log_probs"]) == len(row["token_ids"])
        assert all(value <= 0 for value in row["log_probs"])
        assert row["confidence"].keys() == ({f["name"] for f in row["predicted"]} if predicted else set())
        assert all(0 < value <= 1 for value in row["confidence"].values())
        assert row["truth_text"] == write_report(example.findings)
        assert row["scores"] == per_sample(scored)


def test_metrics_follow_from_the_predictions(evaluated: Path) -> None:
    """And from the training images, whose shares of findings are kept beside them."""
    written, scored = metrics(evaluated), read_predictions(evaluated / "predictions.jsonl")
    again = score(scored, metrics_of("structured"), training_shares=written["training_shares"])
    assert written == json.loads(json.dumps(again.to_json()))
    assert written["images"] == 16
    assert written["bootstrap"] == 1000
    exact = [row["scores"]["exact_match"] for row in predictions(evaluated)]
    assert written["metrics"]["exact_match"]["value"] == pytest.approx(sum(exact) / len(exact))
    named = {"exact_match", "soft_match", "soft_match_jaccard", "micro_precision", "micro_recall", "micro_f1",
             "macro_precision", "macro_recall", "macro_f1", "unparseable_rate"}  # fmt: skip
    assert named <= set(written["metrics"])
    for name in named:
        estimate = written["metrics"][name]
        if estimate["low"] is not None:
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert "soft match" in (evaluated / "table.txt").read_text(encoding="utf-8")


def test_the_best_checkpoint_scores_what_validation_said(
    run: Path, trained_run: TrainingSummary, compose: Compose
) -> None:
    """Saved, loaded onto a freshly quantised base and asked again: the score that chose it."""
    summary = asked(compose(f"run={run}", "split=validation", config="evaluate"))
    assert summary.folder == run / "evaluation" / "validation"
    assert summary.metrics.headline("micro_f1") == pytest.approx(trained_run.best_score, abs=1e-6)
    assert len(predictions(summary.folder)) == 6


def test_other_checkpoints_go_to_folders_of_their_own(run: Path, evaluated: Path, compose: Compose) -> None:
    plain = asked(compose(f"run={run}", "checkpoint=none", "metrics.bootstrap=0", config="evaluate"))
    last = asked(compose(f"run={run}", "checkpoint=last", config="evaluate"))
    assert {path.name for path in (run / "evaluation").iterdir()} == {"test", "test_none", "test_last"}
    assert plain.metrics.headline("exact_match") == 0  # a base that never saw this task
    assert plain.metrics.headline("unparseable_rate") > 0.5
    texts = [{row["image_id"]: row["text"] for row in predictions(f)} for f in (plain.folder, last.folder, evaluated)]
    assert texts[0] != texts[1]
    assert texts[0].keys() == texts[1].keys() == texts[2].keys()
    assert math.isnan(plain.metrics.estimates["soft_match"].low)
    assert metrics(evaluated) == metrics(run / "evaluation" / "test")


def test_reports_at_random_tell_what_the_greedy_one_does_not(run: Path, compose: Compose) -> None:
    """And the confidence metrics count it, now and when the file is scored again."""
    overrides = ("split=validation", "samples=4", "temperature=1.5", "metrics=confidence", "metrics.bootstrap=0")
    summary = asked(compose(f"run={run}", *overrides, config="evaluate"))
    lines, more = predictions(summary.folder), 0
    for line in lines:
        reports = [parse_report(text) for text in line["samples"]]
        named = [report.names for report in reports if report is not None]
        assert (len(reports), line["temperature"], line["seed"]) == (4, 1.5, 0)
        assert line["sampled"] == {n: sum(n in names for names in named) / 4 for n in sorted(set().union(*named))}
        more += len(line["sampled"].keys() - {f["name"] for f in line["predicted"] or ()})
    assert more > 0
    again = score(read_predictions(summary.folder / "predictions.jsonl"), metrics_of("confidence"), bootstrap=0)
    assert again.headline("brier_score") == summary.metrics.headline("brier_score")
    bins = summary.metrics.to_json()["calibration"]["bins"]
    claims = sum(len(line["sampled"].keys() | {f["name"] for f in line["predicted"] or ()}) for line in lines)
    assert sum(one["count"] for one in bins) == claims


WRONG = [
    ([], "run=outputs/"),
    (["run=/no/such/run"], "/no/such/run"),
    (["run=5"], "5"),
    (["run=null"], "run"),
    (["run={run}", "split=train"], "split"),
    (["run={run}", "checkpoint=first"], "checkpoint"),
    (["run={run}", "batch_size=0"], "batch_size"),
    (["run={run}", "batch_size=true"], "batch_size"),
    (["run={run}", "batch_size=1.5"], "batch_size"),
    (["run={run}", "metrics.confidence=2"], "metrics.confidence"),
    (["run={run}", "metrics.seed=-1"], "metrics.seed"),
    (["run={run}", "metrics.scores.bands.head=7"], "metrics.scores.bands"),
]


@pytest.mark.parametrize("overrides, named", WRONG, ids=[" ".join(o) or "nothing" for o, _ in WRONG])
def test_what_is_wrong_is_one_message(compose: Compose, run: Path, overrides: list[str], named: str) -> None:
    cfg = compose(*(override.format(run=run) for override in overrides), config="evaluate")
    with pytest.raises(UserError, match=named):
        asked(cfg)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_patients_who_were_trained_on_are_not_evaluated(compose: Compose, run: Path, split: str) -> None:
    """As when the data changed since: another label file, or a stratified split of more rows."""
    splits = pd.read_parquet(run / "splits.parquet")
    tested = splits["split"] == "test"
    patient = splits["PatientID"][tested].iloc[0]
    splits.loc[splits["PatientID"] == patient, "split"] = split
    splits.to_parquet(run / "splits.parquet", index=False)
    with pytest.raises(UserError, match=f"1 patients of the test split were trained on or validated with: {patient}"):
        asked(compose(f"run={run}", config="evaluate"))


def test_images_that_were_broken_once_are_forgotten(compose: Compose, run: Path) -> None:
    listed = run / "evaluation" / "test" / "quarantine.csv"
    listed.write_text("image_id,split,reason\nold.png,test,truncated\n", encoding="utf-8")
    assert asked(compose(f"run={run}", "metrics.bootstrap=0", config="evaluate")).broken_images == 0
    assert not listed.exists()


def test_missing_images_are_listed(compose: Compose, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = OmegaConf.load(run / "config.yaml")
    config.data.max_broken_fraction = 0.5
    OmegaConf.save(config, run / "config.yaml")
    missing: list[str] = []

    def absent(_: PhantomSource, image_ids: Sequence[str]) -> dict[str, str]:
        missing.append(image_ids[0])
        return {image_ids[0]: "no such file"}

    monkeypatch.setattr(PhantomSource, "absent", absent)
    done = asked(compose(f"run={run}", "metrics.bootstrap=0", config="evaluate"))
    assert done.broken_images == 1
    listed = (run / "evaluation" / "test" / "quarantine.csv").read_text(encoding="utf-8")
    assert listed == f"image_id,split,reason\n{missing[0]},test,no such file\n"


def test_the_base_model_of_a_config_without_adapter(compose: Compose, small: Sequence[str], tmp_path: Path) -> None:
    """Training refuses it; the base can still be asked."""
    run = RunFolder.new(tmp_path / "run")
    run.write_config(Settings.from_config(compose(*small, "adapter=none", "model.max_new_tokens=4")).cfg)
    done = asked(compose(f"run={run.path}", "checkpoint=none", "metrics.bootstrap=0", config="evaluate"))
    assert len(predictions(done.folder)) == 16


def test_a_run_without_that_checkpoint(compose: Compose, run: Path) -> None:
    """A run that was stopped early has no last adapter."""
    shutil.rmtree(run / "checkpoints" / "last")
    with pytest.raises(UserError, match="last"):
        asked(compose(f"run={run}", "checkpoint=last", config="evaluate"))
    assert not (run / "evaluation" / "test_last").exists()
