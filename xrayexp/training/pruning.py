"""Ends a training early when whoever watches the validation metric says that it is not worth going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

if TYPE_CHECKING:
    from xrayexp.training.module import ReportModule


class Pruning(L.Callback):
    """Reports the monitored metric after every validation, and stops where the answer is yes.

    Args:
        monitor: name of the validation metric.
        report: takes the optimiser step and the metric, and says whether to stop. Called in the first process alone.

    Attributes:
        pruned_at: the optimiser step at which training was stopped; None where it was not.
    """

    def __init__(self, monitor: str, report: Callable[[int, float], bool]) -> None:
        self.monitor, self._report = monitor, report
        self.pruned_at: int | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: ReportModule) -> None:  # type: ignore[override]
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        step = trainer.global_step
        answer = trainer.is_global_zero and self._report(step, float(trainer.callback_metrics[self.monitor]))
        if trainer.strategy.broadcast(answer):
            self.pruned_at = step
            trainer.should_stop = True
