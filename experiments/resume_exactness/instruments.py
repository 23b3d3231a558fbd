"""Lightning callbacks that write down what a run does, and that end its process without notice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import lightning as L

if TYPE_CHECKING:
    from xrayexp.data.collate import Batch

MOMENTS = ("step", "save", "validation")


class Trace(L.Callback):
    """Appends a line for every optimiser step: its number, loss, gradient norm, rate and images, all digits.

    Args:
        file: grows over all processes of a run; steps that are taken again after a kill stand in it again.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        logged = {name: float(trainer.callback_metrics[f"train/{name}"]).hex() for name in ("loss", "grad_norm", "lr")}
        line = {"step": trainer.global_step, **logged, "images": [s.example.image_id for s in batch.samples]}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Kill(L.Callback):
    """Ends the process as the kernel would, with SIGKILL, once.

    Args:
        step: not before this optimiser step.
        moment: right after a step, half-way through writing a checkpoint, or within a validation.
        mark: a file that remembers that it has happened.
    """

    def __init__(self, step: int, moment: str, mark: str) -> None:
        self.step, self.moment, self.mark = step, moment, Path(mark)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self._due(trainer, "step"):
            self._kill()

    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if self._due(trainer, "validation"):
            self._kill()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._due(trainer, "save"):
            checkpoint["written before this"] = b" " * 2**20
            checkpoint["the end"] = _Bomb(self)

    def _due(self, trainer: L.Trainer, moment: str) -> bool:
        return moment == self.moment and trainer.global_step >= self.step and not self.mark.exists()

    def _kill(self) -> NoReturn:
        self.mark.write_text(self.moment)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nothing runs after SIGKILL")


class _Bomb:
    """Goes off when it is pickled, that is, in the middle of a file."""

    def __init__(self, kill: Kill) -> None:
        self.kill = kill

    def __reduce__(self) -> NoReturn:
        self.kill._kill()
