"""Model cards: metadata that the hub reads, what a reader must know, and nothing of this machine."""

from __future__ import annotations

import getpass
import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from omegaconf import DictConfig, OmegaConf

from xrayexp.metrics.agreement import Agreement
from xrayexp.tracking.model_card import MergedModel, model_card
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.summary import TrainingSummary

Compose = Callable[..., DictConfig]
MEDGEMMA = "google/medgemma-1.5-4b-it"
AGREEMENT = Agreement(4, 100, 0.5, 0.01, 0.001, 0.99, 3)
MERGED = MergedModel("best", MEDGEMMA, MEDGEMMA, "bfloat16", False, None, {"the trained model": AGREEMENT}, "Compared.")


def metadata(text: str) -> Any:
    """As the hub's client reads it."""
    return ModelCard(text).data


@pytest.fixture
def padchest(compose: Compose, tmp_path: Path) -> dict[str, Any]:
    """The config of a 4B run on data in a private folder."""
    root = tmp_path / "private" / "PadChest"
    cfg = compose("model=medgemma15", "adapter=dora", f"data.root={root}", f"data.source.exclude={root}/known.csv")
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """The folder of that run as far as a card reads it: hand-written rows, no real ones."""
    folder = tmp_path / "run"
    folder.mkdir()
    rows = [
        ("a", "p1", "s1", "train"),
        ("b", "p1", "s2", "train"),
        ("c", "p2", "s3", "test"),
        ("d", "p3", "s4", "unused"),
    ]
    pd.DataFrame(rows, columns=["ImageID", "PatientID", "StudyID", "split"]).to_parquet(folder / "splits.parquet")
    overrides = [
        "model=medgemma15", f"data.root={tmp_path}/private/PadChest", "logger.wandb.entity=our-clinic", "adapter=dora",
        f"hydra.run.dir={tmp_path}/run", "+api_key=sk-123",
    ]  # fmt: skip
    start = {"versions": {"torch": "2.13.0"}, "git": {"commit": "abc123", "dirty": True}}
    record = {"overrides": overrides, "starts": [start]}
    (folder / "run.json").write_text(json.dumps(record))
    return RunFolder(folder)


def test_the_card_of_a_medgemma_run(run: RunFolder, padchest: dict[str, Any]) -> None:
    text = model_card(run, padchest, MERGED)
    data = metadata(text).to_dict()
    assert data["base_model"] == MEDGEMMA
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "image-text-to-text")
    assert (data["license"], data["license_name"]) == ("other", "health-ai-developer-foundations")
    assert data["license_link"] == "https://developers.google.com/health-ai-developer-foundations/terms"
    assert data["datasets"] == ["padchest"]
    assert {"chest-x-ray", "dora", "merged"} <= set(data["tags"])
    assert "model-index" not in data
    for said in (
        "was not evaluated on the test split",
        "not for any decision about a patient",
        "| train | 2 | 1 |",
        "| test | 1 | 1 |",
        "projections: [PA, AP, AP_horizontal]",
        "dora (peft.LoraConfig)",
        "lr=0.0001",
        "rounded by nf4",
        "same report for 3 of 4 images",
        "one Spanish hospital",
        "Research Use Agreement",
        "Prohibited Use",
        "torch 2.13.0",
        "Commit abc123, with uncommitted changes",
        "`python train.py model=medgemma15 data.root=PadChest adapter=dora`",
    ):
        assert said in text, said


def test_nothing_of_this_machine_is_in_it(run: RunFolder, padchest: dict[str, Any], tmp_path: Path) -> None:
    text = model_card(run, padchest, MERGED)
    words = text.replace("/", " ").replace("`", " ").split()
    for private in (str(tmp_path), str(Path.home()), "sk-123", "our-clinic", "hydra.run", "cache_dir"):
        assert private not in text, private
    for name in (getpass.getuser(), platform.node()):
        assert name not in words, name
    assert "known.csv" in text  # what a file was called is a choice, not a place


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"dequantized": True}, "rounded by nf4, and written out"),
        ({"agreements": {}, "compared_on": "Nobody asked."}, "How far the outputs differ was not measured."),
        ({"repository": "me/chest"}, 'name = "me/chest"'),
        ({"dtype": "float32"}, "rounded once to float32"),
        ({"hub_id": None, "base": "my-gemma"}, "The base is my-gemma;"),
    ],
)
def test_what_was_done_is_said(run: RunFolder, padchest: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    assert said in model_card(run, padchest, MergedModel(**{**vars(MERGED), **changes}))


def test_a_run_on_whole_weights(run: RunFolder, compose: Compose) -> None:
    cfg: Any = OmegaConf.to_container(compose("quantization=none"), resolve=True)
    text = model_card(run, cfg, MERGED)
    assert "never quantised" in text
    assert "drawings by a program" in text
    assert "datasets" not in metadata(text).to_dict()


def test_a_config_that_is_older_than_cards(run: RunFolder, padchest: dict[str, Any]) -> None:
    for room in ("model", "data"):
        del padchest[room]["about"]
    text = model_card(run, padchest, MERGED)
    assert "The licence of the base model holds for this model too." in text
    assert "license" not in metadata(text).to_dict()


def test_scores_come_with_their_intervals(trained_run: TrainingSummary, compose: Compose, tmp_path: Path) -> None:
    shutil.copytree(trained_run.folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    cfg: Any = OmegaConf.to_container(run.config(), resolve=True)
    text = model_card(run, cfg, MERGED)
    scores = json.loads((run.evaluation("test", "best") / "metrics.json").read_text())
    exact = scores["metrics"]["exact_match"]
    assert f"| exact match | {exact['value']:.3f} | {exact['low']:.3f} to {exact['high']:.3f} |" in text
    assert f"16 images of {scores['patients']} patients" in text
    assert f"{trained_run.trainable_parameters:,} of {trained_run.total_parameters:,}" in text
    results = {result.metric_type: result for result in metadata(text).eval_results or []}
    assert results["exact_match"].metric_value == exact["value"]
    assert results["exact_match"].dataset_split == "test"
    assert results["exact_match"].metric_args == {"low": exact["low"], "high": exact["high"], "confidence": 0.95}
    assert "mean_findings_true" not in results
    assert "was not evaluated" in model_card(run, cfg, MergedModel(**{**vars(MERGED), "checkpoint": "last"}))
