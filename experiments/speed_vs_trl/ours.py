"""A training by this package, as `python train.py` runs it: checkpoints, logs and callbacks included."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import lightning as L
from omegaconf import open_dict

from experiments.results import Values
from experiments.speed_vs_trl.meter import Meter
from experiments.speed_vs_trl.task import Task, draw_images


class Watch(L.Callback):
    """Reads the meter where Lightning says that a step is done."""

    meters: list[Meter] = []  # noqa: RUF012  # of this process: a config cannot hold an object

    def __init__(self, unmeasured: int, samples: int) -> None:
        self.meter, self.losses = Meter(unmeasured, samples), list[float]()
        self.meters.append(self.meter)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.meter.before_training()

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.meter.after_step(trainer.global_step)
        if trainer.global_step == trainer.max_steps:
            self.meter.after_training(fmean(self.losses))


def measure(settings: Values, work: Path) -> Values:
    """What a row's training takes."""
    from xrayexp import pipeline
    from xrayexp.run_data import data_module
    from xrayexp.settings import Settings

    task = Task.of(settings, work)
    cfg = task.config(work / "ours")
    target = {"_target_": f"{__name__}.{Watch.__name__}", "unmeasured": task.unmeasured, "samples": task.samples}
    with open_dict(cfg):
        cfg.callbacks.watch = target
    read = Settings.from_config(cfg)
    draw_images(read, data_module(read, None))
    pipeline.train(cfg)
    return Watch.meters.pop().values
