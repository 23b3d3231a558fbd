"""Progress with the live metric: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from xrayexp.progress import LINE_INTERVAL, is_watched
from xrayexp.training.module import RUNNING_METRIC

log = logging.getLogger(__name__)


def progress_callback() -> ProgressBar:
    """Rich's bars when a person is watching, a line every few seconds when the output goes to a file."""
    return RichProgressBar() if is_watched() else PlainProgress()


class PlainProgress(ProgressBar):
    """Logs a line with the metrics at most every `interval` seconds, and after every validation.

    Args:
        interval: seconds between lines.
    """

    def __init__(self, interval: float = LINE_INTERVAL) -> None:
        super().__init__()
        self.interval = interval
        self._last = -float("inf")
        self._started = 0.0

    def disable(self) -> None:
        self.interval = float("inf")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        done, total = trainer.global_step, trainer.estimated_stepping_batches
        if self._due() or done == total:
            left = (time.monotonic() - self._started) * (total / done - 1)
            self._line(f"step {done}/{total}", trainer, pl_module, "train/", f"{left:.0f} s left")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._line(f"validation at step {trainer.global_step}", trainer, pl_module, "val/")

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self._evaluated("validation", trainer, pl_module, args[2], sum(trainer.num_val_batches))

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self._evaluated("evaluation", trainer, pl_module, args[2], sum(trainer.num_test_batches))

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self._evaluated("losses", trainer, pl_module, args[2], sum(trainer.num_predict_batches))

    def _evaluated(
        self, name: str, trainer: L.Trainer, module: L.LightningModule, batch_idx: int, batches: float
    ) -> None:
        if self._due():
            self._line(f"{name} batch {batch_idx + 1}/{batches}", trainer, module, RUNNING_METRIC)

    def _due(self) -> bool:
        return time.monotonic() - self._last >= self.interval

    def _line(self, what: str, trainer: L.Trainer, module: L.LightningModule, prefix: str, *more: str) -> None:
        """Logs the metrics whose name begins with `prefix`."""
        self._last = time.monotonic()
        metrics = [
            f"{name} {float(value):.4g}"
            for name, value in self.get_metrics(trainer, module).items()
            if name.startswith(prefix) and isinstance(value, int | float)
        ]
        log.info(" | ".join([what, *metrics, *more]))
