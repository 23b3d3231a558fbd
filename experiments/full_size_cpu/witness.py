"""A Lightning callback that writes down what a training does to its adapter, its model and its process."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from xrayexp.adapters.attach import adapter_parameters

if TYPE_CHECKING:
    from xrayexp.data.collate import Batch

GIB = 2**30
PROCESS = Path("/proc/self")


def resident_gib() -> float:
    """Resident memory of this process."""
    return _status("VmRSS")


def peak_gib() -> float:
    """The most that it ever was, since `forget_peak`.

    Not `ru_maxrss`: that one begins with what the parent process held, and cannot be set back.
    """
    return _status("VmHWM")


def mapped_gib() -> float:
    """What of the resident memory are files: libraries, and a checkpoint's weights as long as nothing changes them."""
    return _status("RssFile")


def forget_peak() -> None:
    """Starts the measurement of the peak anew."""
    (PROCESS / "clear_refs").write_text("5")


def _status(name: str) -> float:
    lines = (PROCESS / "status").read_text().splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kib) * 1024 / GIB


class Witness(L.Callback):
    """Made before the model is loaded, which is where the process's own memory is measured.

    Args:
        file: gets one JSON object when training ends.
    """

    def __init__(self, file: str) -> None:
        import bitsandbytes  # noqa: F401  # so that only the model comes on top
        import peft  # noqa: F401
        from transformers import Gemma3ForConditionalGeneration  # noqa: F401

        self.file = Path(file)
        self.seen: dict[str, Any] = {
            "before_gib": resident_gib(),
            "before_mapped_gib": mapped_gib(),
            "steps": [],
        }
        forget_peak()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen |= {"loading_gib": peak_gib(), "loaded_gib": resident_gib()}
        forget_peak()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._started, self._used = time.monotonic(), time.process_time()

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._gradients = gradients(pl_module.model)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        [sample] = batch.samples
        step = {
            "loss": float(trainer.callback_metrics["train/loss"]),
            "tokens": len(sample.input_ids),
            "supervised": batch.supervised_tokens,
            "cpu_seconds": time.process_time() - self._used,
            "seconds": time.monotonic() - self._started,
            "peak_gib": peak_gib(),
            "mapped_gib": mapped_gib(),
            **self._gradients,
        }
        self.seen["steps"].append(step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.file.write_text(json.dumps(self.seen), encoding="utf-8")


def gradients(model: Any) -> dict[str, int]:
    """How many tensors the adapter has, how many of them a gradient, and how many of all others."""
    adapter = adapter_parameters(model)
    there = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    own = [gradient for name, gradient in there.items() if name in adapter]
    return {
        "adapter": len(adapter),
        "with_gradient": len(own),
        "finite": sum(bool(gradient.isfinite().all()) for gradient in own),
        "not_zero": sum(bool(gradient.any()) for gradient in own),
        "others": len(there) - len(own),
    }
