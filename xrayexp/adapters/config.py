"""The config section of the adapters room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class AdapterSection:
    """`adapter`: one method of the PEFT library and what it is applied to.

    Attributes:
        name: short name, for the run folder and tables.
        lr_scale: learning rate as a multiple of the model's default; the optimiser's YAML refers to it.
        target: a name of `xrayexp.adapters.targets.TARGETS`, "none", or a regular expression of module names.
        quantized_base: whether the method works on 4-bit and 8-bit weights.
        peft: the `_target_` and arguments of a `peft.PeftConfig`.
        train_projector: train the projector between vision tower and language model whole.
        reason: why it does not work on quantised weights.
        instead: the nearest method that does.
        r: rank, for methods that have one.
        alpha: the method's scale (LoRA's alpha, DeLoRA's lambda), for methods that have one.
        dropout: probability of dropout in the adapter, for methods that have it.
        modules_to_save: modules that are trained and saved whole.
        ensure_weight_tying: keep tied modules among those one matrix.
        frozen: parameters of the adapter that are not trained, by the last part of their name.
        phases: arguments of PEFT that count optimiser steps, as shares of the whole training.
    """

    name: str
    lr_scale: float
    target: str
    quantized_base: bool
    peft: dict[str, Any]
    train_projector: bool = False
    reason: str = ""
    instead: str = "dora"
    r: int = 1
    alpha: float = 1.0
    dropout: float = 0.0
    modules_to_save: list[str] | None = None
    ensure_weight_tying: bool | None = None
    frozen: list[str] = field(default_factory=list)
    phases: dict[str, float] | None = None

    @property
    def needs_unquantized(self) -> str:
        """What to say where `quantized_base` is false and the weights are quantised."""
        because = f" ({self.reason})" if self.reason else ""
        return (
            f"adapter={self.name} does not work on quantised weights{because}: add quantization=none, or use "
            f"adapter={self.instead}"
        )

    @property
    def trains_something(self) -> bool:
        """Whether there is anything to train: an adapter, or modules that are trained whole."""
        return self.target != "none" or self.train_projector or bool(self.modules_to_save)

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        if not self.lr_scale > 0:
            found.append(f"adapter.lr_scale must be above 0, not {self.lr_scale}")
        if self.r < 1:
            found.append(f"adapter.r must be at least 1, not {self.r}")
        if not self.alpha > 0:
            found.append(f"adapter.alpha must be above 0, not {self.alpha}")
        if not 0 <= self.dropout < 1:
            found.append(f"adapter.dropout must be in [0, 1), not {self.dropout}")
        for name, share in (self.phases or {}).items():
            if not 0 <= share <= 1:
                found.append(f"adapter.phases.{name} is a share of the training, from 0 to 1, not {share}")
        return found
