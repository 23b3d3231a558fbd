"""A run's own losses as the difficulty of the next: measured by the real pipeline, read by the real training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from xrayexp import pipeline
from xrayexp.adapters.attach import base_model, load_adapter
from xrayexp.cli import main
from xrayexp.data.collate import EncodedSample, ReportEncoder, pad
from xrayexp.data.losses import read_losses, write_losses
from xrayexp.errors import DataError, UserError
from xrayexp.settings import Settings
from xrayexp.tracking.summary import TrainingSummary

Build = Callable[..., Any]
Compose = Callable[..., DictConfig]
BY_LOSS = ("curriculum=easy_to_hard", "curriculum/difficulty=model_loss")


@pytest.fixture(scope="module")
def run(trained_run: TrainingSummary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shared run, to write into."""
    copy = tmp_path_factory.mktemp("losses") / "run"
    shutil.copytree(trained_run.folder, copy)
    return copy


@pytest.fixture(scope="module")
def losses(run: Path) -> Path:
    """The losses of its best adapter."""
    return pipeline.measure_losses(run)


@pytest.fixture
def examples(build: Build) -> list[Any]:
    """The training examples of every small run."""
    found: list[Any] = build("quantization=none").data.splits["train"]
    return found


def ids(examples: Sequence[Any]) -> list[str]:
    return [example.image_id for example in examples]


def test_every_training_image_has_the_loss_that_transformers_computes(
    run: Path, losses: Path, examples: list[Any], encoder: ReportEncoder, load_tiny: Callable[..., Any]
) -> None:
    found = read_losses(losses, ids(examples))
    assert len(losses.read_text().splitlines()) == 1 + 64
    source = instantiate(OmegaConf.load(run / "config.yaml").data.source, _convert_="all")
    model = base_model(load_adapter(load_tiny("nf4"), run / "checkpoints" / "best")).eval()
    for number in (0, 17, 63):
        sample = encoder.encode(examples[number], source.image(examples[number].image_id), supervised=True)
        assert isinstance(sample, EncodedSample)
        alone = pad([sample], encoder.pad_token_id)
        with torch.no_grad():
            theirs = float(model(**alone.inputs, labels=alone.labels).loss)
        assert found[number] == pytest.approx(theirs, rel=1e-3)


def test_the_command_says_where_and_what_next(
    run: Path, losses: Path, examples: list[Any], compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """In batches of another size, and for the base: training has brought the loss down."""
    trained = read_losses(losses, ids(examples))
    assert main(["losses", str(run), "--batch-size", "7"]) == 0
    shown = capsys.readouterr().out
    assert np.allclose(read_losses(losses, ids(examples)), trained, rtol=1e-3)
    assert main(["losses", str(run), "--checkpoint", "none", "--accelerator", "cpu"]) == 0
    base = read_losses(run / "evaluation" / "train_none" / "losses.csv", ids(examples))
    assert base.mean() > 2 * trained.mean()
    command = shown.partition("python train.py ")[2].split()
    assert Settings.from_config(compose(*command)).curriculum.difficulty.losses == str(losses)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "nowhere is not the folder of a run"),
        (["RUN", "--checkpoint", "last"], "adapter"),
        (["RUN", "--accelerator", "gpu"], "accelerator"),
    ],
)
def test_the_command_refuses_by_name(
    run: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "last")
    assert main(["losses", *(argument.replace("RUN", str(tmp_path / "run")) for argument in arguments)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5"])
def test_a_wrong_batch_size(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["losses", "run", f"--batch-size={given}"])
    assert stop.value.code == 2
    assert f"must be a whole number of at least 1, not {given}" in capsys.readouterr().err


class Seen(L.Callback):
    """The images that reached `training_step`, in order."""

    def __init__(self) -> None:
        self.images: list[str] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.images += [sample.example.image_id for sample in args[1].samples]


def test_training_goes_from_low_losses_to_high_ones(build: Build, losses: Path) -> None:
    seen = Seen()
    parts = build("quantization=none", "trainer.max_steps=8", *BY_LOSS, f"curriculum.difficulty.losses={losses}")
    parts.fit(seen)
    assert sorted(seen.images) == sorted(ids(parts.data.splits["train"]))
    found = read_losses(losses, seen.images)
    assert (np.diff(found) >= 0).all()
    assert found[0] < found[-1]


def test_images_without_a_loss_stop_the_run_before_the_model_is_loaded(
    compose: Compose, small: Sequence[str], losses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "load_model", lambda *_, **__: pytest.fail("the model is loaded"))
    more = ("data.max_images.train=70", *BY_LOSS, f"curriculum.difficulty.losses={losses}")
    with pytest.raises(DataError, match=r"no loss for 6 of 70 training images, such as phantom_"):
        pipeline.train(compose(*small, *more))


def test_a_resumed_run_needs_the_losses_that_it_was_started_with(
    compose: Compose, small: Sequence[str], losses: Path, examples: list[Any], tmp_path: Path
) -> None:
    """The file may lie elsewhere; with other losses in it the order would be another."""
    common = ("trainer.checkpoint_every=1", "model.max_new_tokens=4", "callbacks=none", *BY_LOSS)
    of = dict(zip(ids(examples), read_losses(losses, ids(examples)).tolist(), strict=True))
    file = tmp_path / "losses.csv"

    def train(*overrides: str) -> TrainingSummary:
        own = (f"curriculum.difficulty.losses={file}", f"paths.output_dir={tmp_path / 'run'}")
        return pipeline.train(compose(*small, *common, *own, *overrides))

    write_losses(file, of)
    train()
    file = file.rename(tmp_path / "elsewhere.csv")
    resumed = train(f"resume={tmp_path / 'run'}", "trainer.max_steps=3")
    assert resumed.steps == 3
    write_losses(file, of | {examples[0].image_id: 99.0})
    with pytest.raises(UserError, match=r"not as difficult as when the run was started"):
        train(f"resume={tmp_path / 'run'}", "trainer.max_steps=4")


@pytest.mark.parametrize("curriculum", ["easy_to_hard", "hard_first", "paced"])
def test_other_difficulties_are_another_training_set(build: Build, curriculum: str) -> None:
    one, same, other = (
        build("quantization=none", f"curriculum={curriculum}", f"curriculum.difficulty.locations={weight}").data
        for weight in (0.5, 0.5, 2.0)
    )
    same.load_state_dict(one.state_dict())
    with pytest.raises(UserError, match="not as difficult"):
        other.load_state_dict(one.state_dict())


def test_a_random_order_does_not_depend_on_difficulties(build: Build) -> None:
    one, other = (build("quantization=none", f"curriculum.difficulty.locations={weight}").data for weight in (0.5, 2.0))
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict()


def test_a_broken_image_has_no_loss_and_is_named(build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts = build("quantization=none", "data.max_broken_fraction=0.1")
    broken = parts.data.splits["train"][5].image_id
    draw = parts.data.source.image

    def image(image_id: str) -> NDArray[np.uint8]:
        if image_id == broken:
            raise DataError(f"{broken}: cut off")
        drawn: NDArray[np.uint8] = draw(image_id)
        return drawn

    monkeypatch.setattr(parts.data.source, "image", image)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    batches: Any = trainer.predict(parts.module, datamodule=parts.data)
    found = {image_id: loss for batch in batches for image_id, loss in batch.items()}
    assert [image_id for image_id, loss in found.items() if loss is None] == [broken]
    assert len(found) == 64
    assert parts.data.quarantine.broken == {("train", broken): f"{broken}: cut off"}


def test_a_loss_that_is_not_finite_is_no_loss(build: Build) -> None:
    parts = build("quantization=none")
    weights = next(p for p in parts.module.model.parameters() if p.requires_grad)
    with torch.no_grad():
        weights.fill_(torch.nan)
        batch = next(iter(parts.data.predict_dataloader()))
        with pytest.raises(DataError, match=r"the loss of phantom_.* is not finite"):
            parts.module.predict_step(batch, 0)
