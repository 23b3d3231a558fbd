"""Memory during training, in the log, with a warning before it runs out."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import psutil
import torch

from xrayexp.memory.measure import GIB, peak_memory_gib

log = logging.getLogger(__name__)


class PeakMemory(L.Callback):
    """Logs the peak so far beside every row of the training log.

    On a GPU memory/allocated_gib (by tensors) and memory/reserved_gib (held by torch, which is what counts for a
    card's limit); on a CPU memory/rss_gib of the process.

    Args:
        warn_at: share of the device's memory beyond which one warning is given.
    """

    def __init__(self, warn_at: float) -> None:
        self.warn_at = warn_at
        self._warned = False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        peaks, total = _peaks(pl_module.device)
        pl_module.log_dict(peaks)
        name, largest = max(peaks.items(), key=lambda item: item[1])
        if largest > self.warn_at * total and not self._warned:
            self._warned = True
            log.warning(
                "%s is %.1f of %.1f GiB at step %d: lower trainer.micro_batch_size before it runs out",
                name, largest, total, trainer.global_step,
            )  # fmt: skip


def _peaks(device: torch.device) -> tuple[dict[str, float], float]:
    """Peaks in GiB by name, and the device's memory."""
    if device.type != "cuda":
        return {"memory/rss_gib": peak_memory_gib(device)}, psutil.virtual_memory().total / GIB
    total = torch.cuda.get_device_properties(device).total_memory / GIB
    reserved = torch.cuda.max_memory_reserved(device) / GIB
    return {"memory/allocated_gib": peak_memory_gib(device), "memory/reserved_gib": reserved}, total
