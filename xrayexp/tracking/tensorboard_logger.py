"""TensorBoard's event files in the run folder; needs the optional package tensorboard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger as LightningsTensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class TensorBoardLogger(LightningsTensorBoardLogger):
    """Lightning's logger, which a resumed run continues, and whose HPARAMS tab has the end of the run.

    Args:
        save_dir: folder of the event files.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(str(save_dir), name="", version="", default_hp_metric=False)
        from tensorboard.summary.writer import event_file_writer

        # The host's name would be part of every file's name, and there is no option for it.
        event_file_writer.socket = SimpleNamespace(gethostname=lambda: "host")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Writes scalars; the first ones hide what an earlier process wrote from their step on."""
        if self._experiment is None and any(Path(self.log_dir).glob("events.out.tfevents.*")):
            self._kwargs["purge_step"] = step
        super().log_metrics(dict(metrics), step)

    @rank_zero_only
    def log_summary(self, values: Mapping[str, float | str], step: int) -> None:
        """Writes the hyperparameters beside the numbers of the summary, which TensorBoard takes together only."""
        numbers = {f"summary/{name}": value for name, value in values.items() if not isinstance(value, str)}
        self.log_hyperparams(self.hparams, numbers, step)
        self.save()
