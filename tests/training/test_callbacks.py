"""The best adapter is kept, not the last; training stops when nothing gets better; predictions are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file

from xrayexp.training.callbacks import BestAdapter, PredictionWriter
from xrayexp.training.module import ReportModule

Build = Callable[..., Any]

GRADE = "grade"
VALIDATED = ("trainer.validate_every=1", "model.max_new_tokens=4", "data.max_images.validation=2")


class Graded(ReportModule):
    """Validates as ever, and then is told the scores."""

    grades: ClassVar[list[float]] = []

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log(GRADE, self.grades[self.global_step - 1])


class History(L.Callback):
    """The adapter after every validation."""

    def __init__(self) -> None:
        self.adapters: list[dict[str, torch.Tensor]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        parameters = pl_module.named_parameters()
        self.adapters.append({name: p.detach().clone() for name, p in parameters if p.requires_grad})


def saved(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def equal(file: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor]) -> bool:
    """Whether a saved adapter is the one in memory, whose names are longer."""
    kept = {name.removeprefix("model.").replace(".default", ""): values for name, values in adapter.items()}
    assert kept.keys() == file.keys()
    return all(torch.equal(kept[name], file[name]) for name in file)


@pytest.mark.parametrize(
    "grades, best",
    [([0.2, 0.8, 0.4], 1), ([0.5, 0.5, 0.5], 0), ([0.1, 0.2, 0.3], 2), ([float("nan"), 0.1, 0.0], 1)],
)
def test_the_best_adapter_is_kept_and_not_the_last(
    build: Build, tmp_path: Path, grades: list[float], best: int
) -> None:
    Graded.grades = grades
    parts = build("trainer.max_steps=3", *VALIDATED, kind=Graded)
    history, callback = History(), BestAdapter(tmp_path, GRADE)
    parts.fit(callback, history, validate=True)
    assert len(history.adapters) == 3
    assert callback.best_score == pytest.approx(grades[best])
    assert callback.best_step == best + 1
    assert equal(saved(tmp_path / "best"), history.adapters[best])
    assert equal(saved(tmp_path / "last"), history.adapters[-1])
    assert [equal(saved(tmp_path / "best"), adapter) for adapter in history.adapters].count(True) == 1


def test_what_a_killed_process_was_writing_goes_and_what_it_had_written_stays(build: Build, tmp_path: Path) -> None:
    for name in (".best-x1y2/adapter", ".last-x1y2/adapter", "best-of-all", ".notes"):
        (tmp_path / name).mkdir(parents=True)
    build().fit(BestAdapter(tmp_path, GRADE))
    assert {path.name for path in tmp_path.iterdir()} == {"best", "last", "best-of-all", ".notes"}


def test_without_any_validation_the_best_is_the_last(build: Build, tmp_path: Path) -> None:
    callback = BestAdapter(tmp_path, GRADE)
    build().fit(callback)
    assert callback.best_step is None
    best, last = saved(tmp_path / "best"), saved(tmp_path / "last")
    assert all(torch.equal(best[name], last[name]) for name in last)


@pytest.mark.parametrize(
    "grades, patience, steps", [([0.5, 0.4, 0.3, 0.2, 0.1], 2, 3), ([0.1, 0.2, 0.3, 0.4, 0.5], 2, 5)]
)
def test_early_stopping(build: Build, tmp_path: Path, grades: list[float], patience: int, steps: int) -> None:
    Graded.grades = grades
    patient = f"callbacks.early_stopping.patience={patience}"
    parts = build("trainer.max_steps=5", patient, *VALIDATED, kind=Graded)
    stopping = instantiate(parts.settings.cfg["callbacks"]["early_stopping"], monitor=GRADE)
    trainer = parts.fit(BestAdapter(tmp_path, GRADE), stopping, validate=True)
    assert trainer.global_step == steps


def test_predictions_are_written_batch_by_batch(build: Build, tmp_path: Path) -> None:
    parts = build(*VALIDATED, "data.max_images.test=5", "trainer.eval_batch_size=2")
    path = tmp_path / "new" / "predictions.jsonl"
    lines: list[int] = []

    class Watch(L.Callback):
        def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
            lines.append(len(path.read_text(encoding="utf-8").splitlines()))

    trainer = L.Trainer(
        accelerator="cpu", callbacks=[PredictionWriter(path.parent), Watch()], logger=False, enable_progress_bar=False
    )
    for _ in range(2):  # the second evaluation replaces the first
        trainer.test(parts.module, datamodule=parts.data, verbose=False)
    assert lines == [2, 4, 5] * 2
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(row["image_id"] for row in rows) == sorted(e.image_id for e in parts.data.splits["test"])
