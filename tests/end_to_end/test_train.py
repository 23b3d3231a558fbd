"""`python train.py`: what a run leaves, every choice of method, and one message for what is wrong."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from transformers import PreTrainedModel

from xrayexp import pipeline
from xrayexp.entry import launch
from xrayexp.errors import ConfigError, UserError
from xrayexp.models.loading import load_processor
from xrayexp.tracking.summary import TrainingSummary

ROOT = Path(__file__).parents[2]
Compose = Callable[..., DictConfig]
Main = Callable[..., tuple[int, str]]

BRIEF = ("model.max_new_tokens=4", "data.max_images.validation=2")
QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none")  # "disabled" would last beyond the test


@pytest.fixture
def main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], small: Sequence[str]
) -> Main:
    """`main(*overrides)`: a small `python train.py OVERRIDES` in this process: exit code and stderr."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as the entry sets it; put back afterwards

    def run(*overrides: str) -> tuple[int, str]:
        folder = f"hydra.run.dir={tmp_path / 'run'}"
        monkeypatch.setattr(sys, "argv", ["train.py", *small, *BRIEF, folder, *QUIET, *overrides])
        with pytest.raises(SystemExit) as stop:
            launch("train", "train")
        return int(stop.value.code or 0), capfd.readouterr().err

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(summary: TrainingSummary, column: str) -> list[tuple[int, float]]:
    """(step, value) of a column of the log."""
    table = rows(summary.folder / "logs" / "metrics.csv")
    return [(int(row["step"]), float(row[column])) for row in table if row.get(column)]


def test_the_command(tmp_path: Path, small: Sequence[str]) -> None:
    """The real command in a process of its own, with two workers: files, summary, exit code."""
    folder = tmp_path / "run"
    chosen = ("data.num_workers=2", "test=true", *BRIEF, f"hydra.run.dir={folder}")
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *small, *chosen], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    expected = {"config.yaml", "summary.json", "train.log", "logs", "checkpoints", "evaluation"}
    assert expected <= {path.name for path in folder.iterdir()}
    assert {path.name for path in (folder / "evaluation" / "test").iterdir()} == {
        "predictions.jsonl", "metrics.json", "table.txt",
    }  # fmt: skip
    assert f"python evaluate.py run={folder}" in done.stdout
    assert "soft match" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr


def test_what_a_run_leaves(trained_run: TrainingSummary) -> None:
    folder = trained_run.folder
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"] == trained_run.steps == 30
    assert summary["best_step"] in (15, 30)
    assert summary["trainable_parameters"] < summary["total_parameters"]
    assert summary["fit_cpu_seconds"] > 0
    checkpoints = {path.name for path in (folder / "checkpoints").iterdir()}
    assert checkpoints == {"best", "last", "step-00000030.ckpt"}
    config = OmegaConf.load(folder / "config.yaml")
    assert config.adapter.peft.r == 16  # what was an interpolation
    validated = numbers(trained_run, "val/micro_f1")
    assert [step for step, _ in validated] == [15, 30]
    assert summary["best_score"] == pytest.approx(max(score for _, score in validated))
    assert trained_run.evaluation is not None
    assert trained_run.evaluation.folder == folder / "evaluation" / "test"


def test_it_learns(trained_run: TrainingSummary) -> None:
    losses = [loss for _, loss in numbers(trained_run, "train/loss")]
    assert len(losses) == 30
    assert losses[-1] < 0.5 * losses[0]
    rates = [rate for _, rate in numbers(trained_run, "train/lr")]
    assert max(rates) == pytest.approx(OmegaConf.load(trained_run.folder / "config.yaml").optimizer.lr)
    assert rates[-1] < 0.05 * max(rates)


CHOICES = [
    ["adapter=dora", "scheduler=one_cycle", "optimizer=paged_adamw_8bit"],
    ["adapter=delora", "scheduler=constant"],
    ["quantization=int8", "adapter.target=attention"],
    ["adapter=adalora", "adapter.train_projector=true", "test=true"],
    ["adapter=road", "trainer.precision=bf16-mixed"],
    ["trainer=debug", "trainer.max_steps=2"],
    ["trainer.precision=bf16-mixed", "trainer.gradient_checkpointing=true", "adapter.target=language",
     "trainer.checkpoint_layers=1", "trainer.feature_cache=disk", "trainer.loss_chunk=16"],
    ["adapter.modules_to_save=[lm_head,embed_tokens]", "adapter.ensure_weight_tying=true"],
    ["model.attention=eager", "adapter.dropout=0.1", "trainer.gradient_clip=null"],
]  # fmt: skip


@pytest.mark.parametrize("overrides", CHOICES, ids=" ".join)
def test_every_method_trains(compose: Compose, small: Sequence[str], tmp_path: Path, overrides: list[str]) -> None:
    cache = f"data.cache_dir={tmp_path}"
    summary = pipeline.train(compose(*small, *BRIEF, *overrides, cache))
    assert summary.steps == 2
    assert summary.best_step == 2
    assert any(tmp_path.glob("features-*")) == ("trainer.feature_cache=disk" in overrides)
    assert all(torch.tensor(loss).isfinite() for _, loss in numbers(summary, "train/loss"))
    saved = load_file(summary.folder / "checkpoints" / "best" / "adapter_model.safetensors")
    assert all(values.isfinite().all() for values in saved.values())
    only_language = any(override.startswith("adapter.target=") for override in overrides)
    assert any("vision_tower" in name for name in saved) != only_language


def test_the_projector_alone(compose: Compose, small: Sequence[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "xrayexp"):
        summary = pipeline.train(compose(*small, *BRIEF, "adapter=none", "adapter.train_projector=true", "test=true"))
    assert summary.trainable_parameters == 64 * 64 + 64
    assert "adapter none on none (multi_modal_projector whole): 4,160 of" in caplog.text
    saved = load_file(summary.folder / "checkpoints" / "best" / "adapter_model.safetensors")
    assert all("multi_modal_projector" in name for name in saved)


def test_epochs(compose: Compose, small: Sequence[str]) -> None:
    """Two epochs of 8 batches, validated at the end of each."""
    by_epochs = ("trainer.max_steps=null", "trainer.max_epochs=2", "trainer.validate_every=null")
    summary = pipeline.train(compose(*small, *BRIEF, *by_epochs))
    assert summary.steps == 16
    assert [step for step, _ in numbers(summary, "val/micro_f1")] == [8, 16]


@pytest.mark.parametrize("validate_every", ["null", "3"])
def test_training_that_ends_between_validations(compose: Compose, small: Sequence[str], validate_every: str) -> None:
    """It ends in the middle of an epoch, and before the first validation is due."""
    summary = pipeline.train(compose(*small, *BRIEF, f"trainer.validate_every={validate_every}"))
    assert summary.steps == 2
    checkpoints = {path.name for path in (summary.folder / "checkpoints").iterdir()}
    assert checkpoints == {"best", "last", "step-00000002.ckpt"}


def test_a_folder_that_is_quantised_already(
    compose: Compose, small: Sequence[str], load_tiny: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    load_tiny("nf4").save_pretrained(tmp_path)
    load_processor("pkg://xrayexp/models/tiny").save_pretrained(tmp_path)
    given = f"model.pretrained={tmp_path}"
    stored, fresh = (pipeline.train(compose(*small, *BRIEF, *o)) for o in ([given], []))
    losses = [[loss for _, loss in numbers(summary, "train/loss")] for summary in (stored, fresh)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    with pytest.raises(ConfigError, match="stored quantised"):
        pipeline.train(compose(*small, *BRIEF, given, "quantization=none"))


def test_a_4b_config_runs_on_phantoms_and_the_cpu(compose: Compose, small: Sequence[str]) -> None:
    """Everything of model=medgemma15 but the weights."""
    chosen = ("model=medgemma15", "model.pretrained=pkg://xrayexp/models/tiny", "data=phantom", "trainer=cpu")
    summary = pipeline.train(compose(*chosen, *small, *BRIEF))
    assert summary.steps == 2
    assert summary.model == "medgemma15"


def test_a_run_can_be_repeated(compose: Compose, small: Sequence[str]) -> None:
    one, same, other = (pipeline.train(compose(*small, *BRIEF, f"seed={seed}")) for seed in (3, 3, 4))
    assert numbers(one, "train/loss") == numbers(same, "train/loss")
    assert numbers(one, "train/loss") != numbers(other, "train/loss")


def test_a_folder_holds_one_run(compose: Compose, small: Sequence[str], trained_run: TrainingSummary) -> None:
    before = (trained_run.folder / "summary.json").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="already holds a run"):
        pipeline.train(compose(*small, f"paths.output_dir={trained_run.folder}"))
    assert (trained_run.folder / "summary.json").read_text(encoding="utf-8") == before


# What a user may get wrong, beside what tests/test_settings.py lists, and words that the message must hold.
WRONG = [
    (["adapter=loraa"], "adapter=lora"),
    (["trainer.max_step=5"], "trainer.max_steps"),
    (["trainer.max_steps=0"], "trainer.max_steps"),
    (["adapter=delora", "adapter.quantized_base=false"], "quantization=none"),
    (["adapter=c3a"], "adapter=miss"),
    (["adapter=c3a", "quantization=none", "adapter.peft.block_size=48"], "block size"),
    (["adapter=none"], "train_projector=true"),
    (["adapter=vera", "adapter.alpha=3"], "adapter.alpha"),
    (["adapter=adalora", "trainer.max_steps=1"], "at least 2 optimiser steps"),
    (["adapter.target=vision_towr"], "adapter.target"),
    (["adapter.target=.*"], "adapter.target"),
    (["adapter.modules_to_save=[lm_haed]"], "lm_haed"),
    (["optimizer._target_=torch.optim.Adamm"], "Adamm"),
    (["data.source.patients=2"], "split is empty"),
    (["data.source.patients=0"], "data.source.patients"),
    (["data.source.patients=many"], "patients"),
    (["data.source.patients=1.5"], "patients"),
    (["data.source.seed=-1"], "seed"),
    (["data.source.image_size=64.5"], "image_size"),
    (["data.source.findings=[nodul]"], "nodul"),
    (["data.source.acquisition.contrast=[1.0, 0.5]"], "contrast"),
    (["data.source.acquisition.contrast=0.5"], "contrast"),
    (["data.source.acquisition.zoom=[0, 0]"], "zoom"),
    (["data.source.acquisition.noise=[-1, 0]"], "noise"),
    (["data=padchest", "~data.source.patients"], "data"),
    (["model.pretrained=/no/such/folder"], "/no/such/folder"),
    (["model.pretrained=google/medgemma-1.5-4b-it"], "google/medgemma-1.5-4b-it"),
    (["model.max_length=40"], "model.max_length="),
    (["quantization.config.load_in_4bit=perhaps"], "load_in_4bit"),
    (["quantization.config.bnb_4bit_quant_type=nf5"], "nf5"),
    (["callbacks.early_stopping.monitor=val/f1"], "val/f1"),
    (["callbacks.early_stopping.patience=-1"], "patience"),
]


@pytest.mark.parametrize("overrides, words", WRONG, ids=[" ".join(o) for o, _ in WRONG])
def test_what_is_wrong_is_one_message(main: Main, tmp_path: Path, overrides: list[str], words: str) -> None:
    code, err = main(*overrides)
    assert code == 2
    assert "error: " in err
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_padchest_run_without_anything_says_all_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PADCHEST_DIR", raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["train.py", "model=medgemma15", f"hydra.run.dir={tmp_path}", *QUIET])
    with pytest.raises(SystemExit) as stop:
        launch("train", "train")
    err = capfd.readouterr().err
    assert stop.value.code == 2
    assert "PADCHEST_DIR" in err
    assert "google/medgemma-1.5-4b-it" in err
    assert torch.cuda.is_available() or "GPU" in err
    assert err.count("fix: ") >= 2


def test_switched_off_groups(main: Main) -> None:
    code, err = main("~logger", "~callbacks")
    assert code == 0, err
