"""Keeps the best adapter on disk, and writes predictions as they are made."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L

from xrayexp.adapters.attach import save_adapter
from xrayexp.metrics.samples import per_sample

if TYPE_CHECKING:
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
        self.best_score = -math.inf
        self.best_step: int | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: ReportModule) -> None:  # type: ignore[override]
        score = float(trainer.callback_metrics[self.monitor])
        if score > self.best_score:
            self.best_score, self.best_step = score, trainer.global_step
            self._save(pl_module, "best")

    def on_train_end(self, trainer: L.Trainer, pl_module: ReportModule) -> None:  # type: ignore[override]
        self._save(pl_module, "last")
        if self.best_step is None:
            self._save(pl_module, "best")

    def _save(self, module: ReportModule, name: str) -> None:
        save_adapter(module.model, module.encoder.processor, self.folder / name)  # type: ignore[arg-type]


class PredictionWriter(L.Callback):
    """Appends every generated report to a JSON-lines file as soon as its batch is done.

    Args:
        path: the file; an old one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            for scored, answer in outputs["written"]:
                file.write(json.dumps(_row(scored, answer), ensure_ascii=False) + "\n")


def _row(scored: Any, answer: Any) -> dict[str, Any]:
    def findings(report: Any) -> list[dict[str, Any]] | None:
        if report is None:
            return None
        return [{"name": f.name, "locations": list(f.locations)} for f in report.findings]

    return {
        "image_id": scored.image_id,
        "patient_id": scored.patient_id,
        "truth": findings(scored.truth),
        "text": answer.text,
        "predicted": findings(scored.predicted),
        "token_ids": answer.token_ids,
        "log_probs": [round(p, 5) for p in answer.log_probs],
        "scores": per_sample(scored),
    }
