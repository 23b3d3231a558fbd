"""A score that a run must have reached by some step, or it is stopped, or at least not called good."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L

log = logging.getLogger(__name__)


class AccuracyGate(L.Callback):
    """Judges the best validation score: when a run ends, and from a step on at every validation.

    Args:
        monitor: a validation metric, higher is better.
        minimum: what its best value must reach.
        after_step: no run is stopped before this optimiser step.
        action: stop ends training; mark only says so in the summary.
    """

    def __init__(self, monitor: str, minimum: float, after_step: int, action: str) -> None:
        self.monitor, self.minimum, self.after_step, self.action = monitor, minimum, after_step, action
        self.best: float | None = None
        self.validated_step: int | None = None  # of the latest validation

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        score = float(trainer.callback_metrics[self.monitor])
        if self.best is None or not score <= self.best:  # NaN, of no report at all, gives way to any score
            self.best = score
        self.validated_step = trainer.global_step
        late = trainer.global_step >= self.after_step
        if late and self.verdict and self.action == "stop" and trainer.state.fn == "fit":
            log.warning("the accuracy gate ends training: %s", self.verdict)
            trainer.should_stop = True

    @property
    def verdict(self) -> str | None:
        """Why the run is not good; None when it is."""
        if self.best is None:
            return f"no validation has measured {self.monitor}"
        if self.best >= self.minimum:
            return None
        return f"{self.monitor} {self.best:.3f} < {self.minimum} at step {self.validated_step}"

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "validated_step": self.validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


def verdict_of(trainer: L.Trainer) -> str | None:
    """Why one of a trainer's accuracy gates does not call the run good."""
    verdicts = [c.verdict for c in trainer.callbacks if isinstance(c, AccuracyGate)]  # type: ignore[attr-defined]
    return next((verdict for verdict in verdicts if verdict), None)
