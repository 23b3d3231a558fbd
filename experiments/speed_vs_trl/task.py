"""What both trainers are given: the model with its adapter, images, texts, their order, and the optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import DictConfig

from experiments.embedded_default.runs import composed
from experiments.results import Values
from xrayexp.data.phantom import PhantomSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xrayexp.data.datamodule import ReportDataModule
    from xrayexp.data.examples import Example
    from xrayexp.settings import Settings

GEMMA_WORDS = 262_208


class DrawnPhantoms(PhantomSource):
    """Phantoms that were drawn before training began: no trainer's time holds the drawing."""

    drawn: ClassVar[dict[str, NDArray[np.uint8]]] = {}

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image of one row of the table: uint8 [height, width]."""
        return self.drawn[image_id]


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        model: a folder of `bases`, or pkg://.
        steps: optimiser steps, the first ones that are not measured included.
        unmeasured: these first ones: allocators and caches fill up in them.
        batch: samples of a step.
        loss_chunk: positions whose logits this trainer holds at once; None for all.
    """

    model: str
    steps: int
    unmeasured: int
    batch: int
    loss_chunk: int | None

    @classmethod
    def of(cls, settings: Values, work: Path) -> Task:
        """From a row's settings; makes the model if it has another vocabulary."""
        model = base(settings["words"], work)
        return cls(model, settings["steps"], settings["unmeasured"], settings["batch"], settings["loss_chunk"])

    @property
    def samples(self) -> int:
        """How many are measured."""
        return (self.steps - self.unmeasured) * self.batch

    def config(self, folder: Path, overrides: Sequence[str] = ()) -> DictConfig:
        """The config of `python train.py` with this task's model, data and length: NF4, LoRA r=16, AdamW, float32."""
        cfg = composed("train", ["adapter=lora", "adapter.r=16", "quantization=nf4", "test=false", *overrides])
        cfg.model.pretrained = self.model
        cfg.data.source._target_ = f"{__name__}.{DrawnPhantoms.__name__}"
        # No image twice, so that keeping prepared ones is of no use.
        cfg.data.max_images = {"train": (self.steps + 1) * self.batch, "validation": 1, "test": 1}
        cfg.trainer.max_steps = self.steps
        cfg.trainer.effective_batch_size = cfg.trainer.micro_batch_size = self.batch
        cfg.trainer.loss_chunk = self.loss_chunk
        cfg.trainer.validate_every = 2 * self.steps  # never
        cfg.paths.output_dir = str(folder)
        return cfg


def base(words: int | None, work: Path) -> str:
    """The embedded model, with its embedding widened to so many words: a folder under `work`, made once."""
    from xrayexp.models.loading import load_processor, resolve_pretrained

    embedded: str = composed("train").model.pretrained
    if words is None:
        return embedded
    folder = work / f"base_{words}"
    if not folder.exists():
        import torch
        from transformers import AutoModelForImageTextToText

        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_pretrained(resolve_pretrained(embedded))
        model.resize_token_embeddings(words, mean_resizing=False)
        unfinished = folder.with_suffix(".unfinished")
        model.save_pretrained(unfinished)
        load_processor(embedded).save_pretrained(unfinished)
        unfinished.rename(folder)
    return str(folder)


def draw_images(settings: Settings, data: ReportDataModule) -> list[Example]:
    """Draws the images of the first epoch; returns its examples in the order of training."""
    from hydra.utils import instantiate

    examples = [data.splits["train"][draw.sample] for batch in data.sampler.plan(0) for draw in batch]
    phantoms: Any = PhantomSource(
        **{
            name: instantiate(value, _convert_="all") if isinstance(value, dict) else value
            for name, value in settings.cfg["data"]["source"].items()
            if name != "_target_"
        }
    )
    DrawnPhantoms.drawn.update({e.image_id: phantoms.image(e.image_id) for e in examples})
    return examples
