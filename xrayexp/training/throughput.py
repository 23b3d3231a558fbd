"""How fast training goes, and whether it is the data that it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning as L

if TYPE_CHECKING:
    from xrayexp.data.collate import Batch


@dataclass
class _Window:
    """What has been done, and the wall time in seconds that it took."""

    samples: int = 0
    tokens: int = 0
    busy: float = 0.0
    waiting: float = 0.0


class Throughput(L.Callback):
    """Logs samples and supervised tokens per second, and the share of time that was spent waiting for data.

    Each row is about the steps since the row before; validations do not count.

    Args:
        clock: seconds from any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._window = _Window()
        self._last = 0.0  # the end of the step before, or the start of training

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = self._clock()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = self._clock()

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        now = self._clock()
        self._window.waiting += now - self._last
        self._last = now

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        now, window = self._clock(), self._window
        window.busy += now - self._last
        window.samples += len(batch)
        window.tokens += batch.supervised_tokens
        self._last = now
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            seconds = window.busy + window.waiting
            pl_module.log_dict(
                {
                    "throughput/samples_per_s": window.samples / seconds,
                    "throughput/supervised_tokens_per_s": window.tokens / seconds,
                    "throughput/waiting_share": window.waiting / seconds,
                }
            )
            self._window = _Window()
