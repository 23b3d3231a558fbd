"""Checkpoints from which training goes on exactly: everything but the base model, written so that none is ever lost.

No state of a random generator is kept, because none is needed: dropout of a step is seeded by (seed, step), the
order of the samples by (seed, epoch), see `ReportModule.training_step` and `EffectiveBatchSampler`.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from xrayexp import __version__
from xrayexp.errors import DataError, UserError, is_disk_full
from xrayexp.training.stop import StopRequest

if TYPE_CHECKING:
    from lightning.fabric.utilities.types import _PATH

log = logging.getLogger(__name__)

FORMAT = 2  # to be raised when older checkpoints can no longer be read
HEADER = "xrayexp"  # its key in a checkpoint
KEPT = 2  # the newest, and the one before in case the disk damages the newest


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes under a temporary name in the same folder, syncs, renames.

    Lightning's own moves a file over from the temporary folder: killed meanwhile, or with a full disk, it leaves
    neither the new checkpoint nor the old one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            UserError: when the disk is full; files that were there before are untouched.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if is_disk_full(error):
                step = checkpoint.get("global_step")
                raise UserError(
                    f"no room on the disk of {target.parent} for the checkpoint of step {step}; those written before "
                    "are untouched. Free some space, then resume the run."
                ) from error
            raise
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class ExactCheckpoint(Checkpoint):
    """Saves the state of training every few steps or minutes, and at the end.

    Lightning validates after a step's last hook: a checkpoint of a step that is followed by a validation, or by the
    end of the epoch, waits for it. Otherwise a resumed run would skip that validation.

    Args:
        folder: of the checkpoints, step-00000250.ckpt and so on; the newest two are kept.
        every_steps: optimiser steps between checkpoints; None for no such rhythm.
        every_minutes: wall time between checkpoints; None for no such rhythm.

    Raises:
        Stopped: after a checkpoint that a signal asked for.
    """

    def __init__(self, folder: Path, every_steps: int | None, every_minutes: float | None) -> None:
        self.folder, self.every_steps, self.every_minutes = folder, every_steps, every_minutes
        self.stop = StopRequest()
        self.saved_step: int | None = None
        self._saved_at = time.monotonic()
        self.seconds: list[float] = []  # that each checkpoint of this process took
        self._stopped = False  # whether training had ended before its last step
        self._row: dict[str, float] = {}  # of the saved step, if Lightning logs it only after the checkpoint

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_at, self.saved_step = time.monotonic(), trainer.global_step
        for stale in self.folder.glob(".*.tmp"):  # of a process that was killed while it saved
            stale.unlink()
        # Now, since Lightning has just put its own handlers in place: they stop without a checkpoint.
        self.stop.listen()
        if self._stopped:  # early stopping remembers its patience, but Lightning not that it has stopped
            trainer.should_stop = True
            log.warning("early stopping or the accuracy gate had ended this run: nothing is left to train")
        if self._row:  # the process may have been killed before it was logged
            for logger in trainer.loggers:
                logger.log_metrics(self._row, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"stopped": self._stopped, "row": self._row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._stopped, self._row = state_dict["stopped"], state_dict["row"]

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.stop.cease()

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        # Decides which steps are logged. Lightning restores it by guessing at which hook the checkpoint was written.
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        # Not right after saving: by now the saved step is in the logs as well.
        if trainer.global_step == self.saved_step:
            self.stop.obey()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.stop.obey()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if not trainer.is_last_batch and not _validates_now(trainer):
            self._save_if_due(trainer, logged=False)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.is_last_batch:
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # After the last step this hook runs in the middle of an epoch too, when all is saved.
        if trainer.is_last_batch:
            self._save_if_due(trainer)

    def _save_if_due(self, trainer: L.Trainer, *, logged: bool = True) -> None:
        step = trainer.global_step
        if step == self.saved_step:
            return
        minutes = (time.monotonic() - self._saved_at) / 60
        due = (
            step == trainer.max_steps
            or trainer.should_stop
            or self.stop.requested
            or (self.every_steps is not None and step % self.every_steps == 0)
            or (self.every_minutes is not None and minutes >= self.every_minutes)
        )
        if due:
            self._row = {} if logged else _row(trainer)
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        started = time.monotonic()
        self._stopped = trainer.should_stop
        trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:08d}.ckpt")
        self.saved_step, self._saved_at = trainer.global_step, time.monotonic()
        self.seconds.append(self._saved_at - started)
        for old in checkpoints(self.folder)[:-KEPT]:
            old.unlink()


def _row(trainer: L.Trainer) -> dict[str, float]:
    """What Lightning is about to log of the step that has just ended; nothing when no row is due."""
    if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
        return {}
    others = ("step", "val/")  # the row's key, and what the latest validation has logged
    return {name: float(value) for name, value in trainer.logged_metrics.items() if not name.startswith(others)}


def _validates_now(trainer: L.Trainer) -> bool:
    """Whether a validation follows the step that has just ended, in the middle of an epoch."""
    if trainer.check_val_every_n_epoch is not None or not trainer.enable_validation:
        return False
    # By batches, as Lightning counts: one whose images are all broken is no step.
    return (trainer.fit_loop.total_batch_idx + 1) % int(trainer.val_check_batch or 1) == 0


def header() -> dict[str, Any]:
    """What every checkpoint says about its writer."""
    return {"format": FORMAT, "version": __version__}


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    return sorted(folder.glob("step-*.ckpt"))


def latest_checkpoint(folder: Path) -> Path:
    """The newest checkpoint that can be read; a damaged one is named in the log and passed over.

    Raises:
        DataError: there is none, none can be read, or the newest was written by another version.
    """
    found = checkpoints(folder)
    damaged: list[str] = []
    for path in reversed(found):
        try:
            content = torch.load(path, map_location="meta", mmap=True, weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
            damaged.append(path.name)
            continue
        written = content.get(HEADER, {})
        if written.get("format") != FORMAT:
            raise DataError(
                f"{path} was written by xrayexp {written.get('version', 'of another kind')}, whose checkpoints this "
                f"version ({__version__}) cannot read: resume it with that version."
            )
        if damaged:
            log.warning("damaged and passed over: %s; going on from %s", ", ".join(damaged), path.name)
        return path
    if damaged:
        raise DataError(f"no checkpoint in {folder} can be read: {', '.join(damaged)}")
    raise DataError(f"no checkpoint in {folder}: the run has not saved any yet")
