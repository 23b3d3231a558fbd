"""The twelve trainings that are measured, as overrides of `python train.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from xrayexp.settings import Settings

BUDGET_GIB = 12.0
FULL, TINY = "medgemma15", "tiny"
MODELS = {
    FULL: ("model=medgemma15",),
    TINY: ("model=tiny", "trainer.loss_chunk=32"),
}
SHRUNK = {FULL: 1, TINY: 8}  # of the setting's tokens, one in so many
DEVICES = {
    "cuda": ("trainer=gpu_12gb", "optimizer=paged_adamw_8bit"),
    # No pages there, and 8-bit states only of larger tensors than the tiny model has.
    "cpu": ("trainer=cpu", "trainer.precision=bf16-mixed", "optimizer=adamw", "memory=off"),
}
LORA, PEFT_DORA, DORA, DELORA = "LoRA", "PEFT DoRA", "this DoRA", "DeLoRA"
ADAPTERS = {
    LORA: ("adapter=lora",),
    PEFT_DORA: ("adapter=dora", "adapter.name=peft_dora"),  # another name, so that plans are kept apart
    DORA: ("adapter=dora",),
    DELORA: ("adapter=delora",),
}
MICRO_BATCHES = 2  # of an optimiser step: from the second on, gradients are there already, as with any larger number


@dataclass(frozen=True)
class Setting:
    """One training.

    Attributes:
        method: a key of `ADAPTERS`.
        samples: of a micro-batch.
        tokens: of a sample of the full-size model.
        checkpointing: whether activations are computed again.
        vision: whether the vision tower gets an adapter too.
    """

    method: str
    samples: int
    tokens: int
    checkpointing: bool = True
    vision: bool = False

    @property
    def key(self) -> str:
        """Its name in tables."""
        parts = [self.method, f"{self.samples} x {self.tokens}"]
        parts += ["no checkpointing"] * (not self.checkpointing) + ["vision tower too"] * self.vision
        return ", ".join(parts)

    def overrides(self, model: str, device: str) -> list[str]:
        """Those of `python train.py`."""
        return [
            *MODELS[model],
            *DEVICES[device],
            *ADAPTERS[self.method],
            f"adapter.target={'language+vision' if self.vision else 'language'}",
            f"trainer.micro_batch_size={self.samples}",
            f"trainer.effective_batch_size={MICRO_BATCHES * self.samples}",
            f"trainer.gradient_checkpointing={str(self.checkpointing).lower()}",
            f"model.max_length={self.tokens // SHRUNK[model]}",
            "trainer.feature_cache=none",  # every image goes through the tower, as in the steps that are measured
            "trainer.eval_batch_size=1",  # no reports are generated, and a plan of many takes its time
        ]


SETTINGS = (
    Setting(LORA, 1, 512),
    Setting(LORA, 4, 1024),
    Setting(LORA, 2, 512, checkpointing=False),  # a little too much: a plan that says so is to be seen, too
    Setting(LORA, 2, 1024, vision=True),
    Setting(PEFT_DORA, 1, 512),
    Setting(PEFT_DORA, 4, 1024),
    Setting(DORA, 1, 512),
    Setting(DORA, 4, 1024),
    Setting(DORA, 1, 512, checkpointing=False),
    Setting(DORA, 2, 512, vision=True),
    Setting(DELORA, 4, 1024),
    Setting(DELORA, 1, 512, checkpointing=False),
)
PROMISED = Setting(DORA, 4, 1024)


def settings_of(overrides: list[str], work: Path) -> Settings:
    """What `python train.py` would run with; plans are kept in `work`."""
    from xrayexp.config import quoted, training_config
    from xrayexp.settings import Settings

    kept = [f"memory.cache_dir={quoted(str(work))}", f"paths.output_dir={quoted(str(work))}"]
    return Settings.from_config(training_config([*overrides, *kept]))


@contextmanager
def adapters_of(method: str) -> Iterator[None]:
    """Lets adapters be made as this package does, or DoRA as PEFT does."""
    if method != PEFT_DORA:
        yield
        return
    with patch("xrayexp.adapters.dora.factor_dora", _left_as_it_is):
        yield


def _left_as_it_is(model: object) -> int:
    return 0
