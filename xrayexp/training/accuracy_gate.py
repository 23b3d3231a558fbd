"""A score that a run must have reached by some step, or it is stopped, or at least not called good."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L

log = logging.getLogger(__name__)


class AccuracyGate(L.Callback):
    """Judges the best validation score so far, from a step on.

    Args:
        monitor: a validation metric, higher is better.
        minimum: what its best value must reach.
        after_step: validations before this optimiser step are not judged.
        action: stop ends training; mark only says so in the summary.
    """

    def __init__(self, monitor: str, minimum: float, after_step: int, action: str) -> None:
        self.monitor, self.minimum, self.after_step, self.action = monitor, minimum, after_step, action
        self.best: float | None = None
        self.verdict: str | None = None  # why the run is not good; None when it is, or was not judged

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        score = float(trainer.callback_metrics[self.monitor])
        if self.best is None or not score <= self.best:  # NaN, of no report at all, gives way to any score
            self.best = score
        if trainer.global_step < self.after_step:
            return
        passed = self.best >= self.minimum
        self.verdict = (
            None if passed else f"{self.monitor} {self.best:.3f} < {self.minimum} at step {trainer.global_step}"
        )
        if self.verdict and self.action == "stop" and trainer.state.fn == "fit":
            log.warning("the accuracy gate ends training: %s", self.verdict)
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "verdict": self.verdict}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.verdict = state_dict["best"], state_dict["verdict"]
