"""The config section of the training room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xrayexp.errors import ConfigError

if TYPE_CHECKING:
    import torch

ACCELERATORS = ("cpu", "gpu")
PRECISIONS = ("32-true", "bf16-mixed")
AUTO = "auto"
FEATURE_CACHES = ("none", "step", "disk")
GATE_ACTIONS = ("stop", "mark")
MONITORS = ("val/exact_match", "val/soft_match", "val/soft_match_jaccard", "val/micro_f1", "val/macro_f1")


@dataclass
class TrainerSection:
    """`trainer`: hardware, precision and the length of training.

    Attributes:
        accelerator: cpu or gpu (one CUDA device).
        precision: 32-true, or bf16-mixed: bfloat16 arithmetic with the adapter in float32. float16 is not
            offered, since Gemma 3's activations overflow it.
        num_threads: CPU threads of torch; None for torch's choice.
        max_steps: optimiser steps; None when `max_epochs` decides. The smaller of both counts.
        max_epochs: passes over the training set; None when `max_steps` decides.
        effective_batch_size: samples of one optimiser step.
        micro_batch_size: samples that go through the model together.
        eval_batch_size: reports that are generated together.
        gradient_clip: largest norm of the gradient; None for no clipping.
        gradient_checkpointing: recompute activations in the backward pass.
        checkpoint_layers: of the language model's layers, how many do so, from the first on; None for all; "auto" for
            the fewest that are predicted to fit into `memory.budget_gib`, and for all where nothing is predicted.
        feature_cache: where the features of images are kept while vision tower and projector are frozen: `none`,
            `step` (an image goes through them once in an optimiser step) or `disk` (once for all runs).
        compile: compile the language model's layers with torch.compile, for training steps.
        loss_chunk: supervised positions whose logits exist at the same time; None for all at once.
        auto_batch: take the largest micro-batch that is predicted to fit into `memory.budget_gib`.
        validate_every: optimiser steps between validations; None for the end of every epoch.
        log_every: optimiser steps between rows of the log.
        checkpoint_every: optimiser steps between checkpoints to resume from; None for no such rhythm.
        checkpoint_minutes: minutes between checkpoints; None for no such rhythm.
        monitor: the validation metric, higher is better, that chooses the best adapter.
    """

    accelerator: str
    precision: str
    num_threads: int | None
    max_steps: int | None
    max_epochs: int | None
    effective_batch_size: int
    micro_batch_size: int
    eval_batch_size: int
    gradient_clip: float | None
    gradient_checkpointing: bool
    loss_chunk: int | None
    auto_batch: bool
    validate_every: int | None
    log_every: int
    checkpoint_every: int | None
    checkpoint_minutes: float | None
    monitor: str
    # With a default: the configs of older runs lack them.
    checkpoint_layers: int | str | None = None
    feature_cache: str = "none"
    compile: bool = False

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        if self.accelerator not in ACCELERATORS:
            found.append(f"trainer.accelerator must be one of {', '.join(ACCELERATORS)}, not '{self.accelerator}'")
        if self.precision not in PRECISIONS:
            found.append(f"trainer.precision must be one of {', '.join(PRECISIONS)}, not '{self.precision}'")
        if self.monitor not in MONITORS:
            found.append(f"trainer.monitor must be one of {', '.join(MONITORS)}, not '{self.monitor}'")
        if self.max_steps is None and self.max_epochs is None:
            found.append("trainer.max_steps and trainer.max_epochs are both null: training would never end")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            found.append(f"trainer.gradient_clip must be above 0 or null, not {self.gradient_clip}")
        if self.checkpoint_minutes is not None and not self.checkpoint_minutes > 0:
            found.append(f"trainer.checkpoint_minutes must be above 0 or null, not {self.checkpoint_minutes}")
        counts = (
            "num_threads", "max_steps", "max_epochs", "effective_batch_size", "micro_batch_size", "eval_batch_size",
            "loss_chunk",
            "validate_every", "log_every", "checkpoint_every",
        )  # fmt: skip
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                found.append(f"trainer.{name} must be at least 1, not {value}")
        return found + self._checkpointing_problems()

    def _checkpointing_problems(self) -> list[str]:
        layers, found = self.checkpoint_layers, []
        if layers not in (None, AUTO) and (isinstance(layers, str) or layers < 0):
            found.append(f"trainer.checkpoint_layers must be a number of at least 0, auto or null, not {layers}")
        elif layers is not None and not self.gradient_checkpointing:
            found.append("trainer.checkpoint_layers needs trainer.gradient_checkpointing=true")
        if self.feature_cache not in FEATURE_CACHES:
            found.append(
                f"trainer.feature_cache must be one of {', '.join(FEATURE_CACHES)}, not '{self.feature_cache}'"
            )
        return found

    @property
    def checkpointed_layers(self) -> int | None:
        """How many decoder layers are checkpointed, where any are; None for all."""
        return self.checkpoint_layers if isinstance(self.checkpoint_layers, int) else None

    def total_steps(self, batches_per_epoch: int) -> int:
        """Optimiser steps of the whole training."""
        limits = [self.max_steps, self.max_epochs and self.max_epochs * batches_per_epoch]
        return min(limit for limit in limits if limit is not None)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights that are not quantised and of the arithmetic."""
        import torch

        return torch.bfloat16 if self.precision.startswith("bf16") else torch.float32

    @property
    def device(self) -> torch.device:
        """Where the model goes."""
        import torch

        return torch.device("cuda", 0) if self.accelerator == "gpu" else torch.device("cpu")


def check_optimization(optimizer: dict[str, Any] | None, scheduler: dict[str, Any] | None) -> list[str]:
    """Tries the optimiser and the schedule on one number, so that a wrong argument is found before loading.

    Returns:
        What is wrong, one sentence each.
    """
    import torch
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    missing = [name for name, group in (("optimizer", optimizer), ("scheduler", scheduler)) if not group]
    if missing or not optimizer or not scheduler:
        return [f"{name}: the section is missing" for name in missing]
    rate = optimizer.get("lr")
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not rate > 0:
        return [f"optimizer.lr must be a number above 0, not {rate}"]
    try:
        trial = instantiate(optimizer, _convert_="all")([torch.nn.Parameter(torch.zeros(1))])
    except (InstantiationException, TypeError, ValueError, IndexError) as error:
        return [f"optimizer: {_first_line(error)}"]
    try:
        instantiate(scheduler, _convert_="all")(trial, 100)
    except ConfigError as error:
        return list(error.problems)
    except (InstantiationException, TypeError, ValueError) as error:
        return [f"scheduler: {_first_line(error)}"]
    return []


def check_callbacks(callbacks: dict[str, Any] | None) -> list[str]:
    """Looks for mistakes that Lightning would meet at the first validation only.

    Returns:
        What is wrong, one sentence each.
    """
    found = []
    for name, given in (callbacks or {}).items():
        options = given or {}
        if (monitor := options.get("monitor", MONITORS[0])) not in MONITORS:
            found.append(f"callbacks.{name}.monitor must be one of {', '.join(MONITORS)}, not '{monitor}'")
        found += _gate_problems(name, options) if "minimum" in options else []
        patience = options.get("patience", 0)
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 0:
            found.append(f"callbacks.{name}.patience must be a whole number of at least 0, not {patience}")
    return found


def _gate_problems(name: str, options: dict[str, Any]) -> list[str]:
    found, minimum, after = [], options["minimum"], options.get("after_step")
    if not isinstance(minimum, int | float) or isinstance(minimum, bool) or not 0 <= minimum <= 1:
        found.append(f"callbacks.{name}.minimum must be a score from 0 to 1, not {minimum}")
    if not isinstance(after, int) or isinstance(after, bool) or after < 0:
        found.append(f"callbacks.{name}.after_step must be a whole number of at least 0, not {after}")
    if options.get("action") not in GATE_ACTIONS:
        found.append(f"callbacks.{name}.action must be one of {', '.join(GATE_ACTIONS)}, not '{options.get('action')}'")
    return found


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
