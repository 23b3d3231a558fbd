"""Keeps the best adapter on disk, and writes predictions as they are made."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L

from xrayexp.adapters.attach import remove_unfinished, save_adapter
from xrayexp.data.quarantine import QUARANTINE
from xrayexp.metrics.predictions import prediction_row

if TYPE_CHECKING:
    from xrayexp.metrics.samples import ScoredReport
    from xrayexp.training.generation import Generated
    from xrayexp.training.module import ReportModule


class BestAdapter(L.Callback):
    """Saves the adapter whenever validation improves, and once more when training ends.

    Both are plain PEFT folders with the processor. Without any validation, best is the last one.

    Args:
        folder: where `best` and `last` go.
        monitor: the validation metric, higher is better.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        self.folder, self.monitor = folder, monitor
        self.best_score: float | None = None
        self.best_step: int | None = None
        self.validated_step: int | None = None  # of the latest validation

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name in ("best", "last"):
            remove_unfinished(self.folder / name)

    def on_validation_end(self, trainer: L.Trainer, pl_module: ReportModule) -> None:  # type: ignore[override]
        self.validated_step = trainer.global_step
        score = float(trainer.callback_metrics[self.monitor])
        if not math.isnan(score) and (self.best_score is None or score > self.best_score):
            self.best_score, self.best_step = score, trainer.global_step
            self._save(pl_module, "best")

    def on_train_end(self, trainer: L.Trainer, pl_module: ReportModule) -> None:  # type: ignore[override]
        self._save(pl_module, "last")
        if self.best_score is None:
            self._save(pl_module, "best")

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "best_step": self.best_step, "validated_step": self.validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def _save(self, module: ReportModule, name: str) -> None:
        save_adapter(module.model, module.encoder.processor, self.folder / name)  # type: ignore[arg-type]


class FitTime(L.Callback):
    """How long training has taken, with its validations, over all the processes that had a part in it."""

    def __init__(self) -> None:
        self._earlier = (0.0, 0.0)  # of the processes before this one
        self._started = (time.perf_counter(), time.process_time())

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = (time.perf_counter(), time.process_time())

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self._earlier[0] + time.perf_counter() - self._started[0]

    @property
    def cpu_seconds(self) -> float:
        """CPU time, of all threads of the process."""
        return self._earlier[1] + time.process_time() - self._started[1]

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = (state_dict["seconds"], state_dict["cpu_seconds"])


class PredictionWriter(L.Callback):
    """Appends every generated report to predictions.jsonl as soon as its batch is done.

    Args:
        folder: of an evaluation; what an earlier one left in it is removed. The list of broken images is this one's:
            it is begun before the first batch.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "predictions.jsonl"

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for old in self.path.parent.iterdir():
            if old.name != QUARANTINE:
                old.unlink()
        self.path.write_text("")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            for scored, answer in outputs["written"]:
                file.write(json.dumps(_row(scored, answer), ensure_ascii=False) + "\n")


def _row(scored: ScoredReport, answer: Generated) -> dict[str, Any]:
    return prediction_row(scored) | answer.to_row()
