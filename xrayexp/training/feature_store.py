"""The features of images, kept while the vision tower is frozen: within a step, and on disk for all steps and runs."""

from __future__ import annotations

import logging
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from xrayexp.data.slot_cache import Kind, SlotCache
from xrayexp.errors import ConfigError
from xrayexp.models.image_features import FEATURES, embedding_dtype, features_are_fixed, fingerprint, image_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from xrayexp.data.collate import EncodedSample, MicroBatch
    from xrayexp.training.config import TrainerSection

log = logging.getLogger(__name__)

FEATURE_FORMAT = 1  # to be raised with every change of what is kept of an image


class FeatureStore:
    """Sends an image through vision tower and projector once, however often it comes in an optimiser step.

    An image is known by its pixels as the vision tower sees them, so that one that was augmented otherwise, or whose
    file has changed, is another one.

    Args:
        model: the base model, with its adapter's layers in place.
        disk: keeps features from step to step and from run to run; None not to.
    """

    def __init__(self, model: PreTrainedModel, disk: FeatureCache | None = None) -> None:
        self.model, self.disk = model, disk
        self._kept: dict[str, torch.Tensor] = {}  # [image tokens, hidden] by `_key`, on the model's device

    def inputs(self, micro: MicroBatch) -> dict[str, torch.Tensor]:
        """The model's keyword arguments for a micro-batch on its device, with features in place of pixels."""
        keys = [_key(sample) for sample in micro.samples]
        missing = {key: row for row, key in enumerate(keys) if key not in self._kept}
        if self.disk is not None:
            for key, row in list(missing.items()):
                if (found := self.disk.read(micro.samples[row].example.image_id, key)) is not None:
                    self._kept[key] = found.to(micro.pixels.device)
                    del missing[key]
        if missing:
            computed = image_features(self.model, micro.pixel_values(missing.values()))
            self._kept.update(zip(missing, computed, strict=True))
            if self.disk is not None:
                for key, row in missing.items():
                    self.disk.write(micro.samples[row].example.image_id, key, self._kept[key])
        return micro.tokens | {FEATURES: torch.stack([self._kept[key] for key in keys])}

    def forget(self) -> None:
        """To be called after every optimiser step."""
        self._kept.clear()


class FeatureCache:
    """Features on disk by ImageID; those of other pixels, another model or another precision are never read.

    Args:
        folder: where all caches lie.
        model: as for `FeatureStore`.
        precision: of the trainer: autocast changes features too.
        image_ids: the images that may be asked for.

    Raises:
        DataError: the folder cannot be written, or its disk has no room for the features that are missing.
    """

    def __init__(self, folder: Path, model: PreTrainedModel, precision: str, image_ids: Sequence[str]) -> None:
        tokens, hidden = model.config.mm_tokens_per_image, model.config.get_text_config().hidden_size
        self.shape, self.dtype = (int(tokens), int(hidden)), embedding_dtype(model)
        described = f"images as {tokens} x {hidden} numbers ({str(self.dtype).removeprefix('torch.')})"
        kind = Kind(
            title="feature cache",
            prefix="features-",
            file="features.bin",
            each=tokens * hidden * self.dtype.itemsize,
            unit="an image's features",
            described=described,
            remedy="trainer.feature_cache=step",
        )
        about = [f"format {FEATURE_FORMAT}", described, f"precision {precision}", f"model {fingerprint(model)}"]
        self._slots = SlotCache(folder, kind, about, image_ids)

    def read(self, image_id: str, key: str) -> torch.Tensor | None:
        """The features [image tokens, hidden] on the host, or None where those of these pixels are not there."""
        record = self._slots.read_record(image_id, key)
        return None if record is None else torch.from_numpy(record).view(self.dtype).reshape(self.shape)

    def write(self, image_id: str, key: str, features: torch.Tensor) -> None:
        """Keeps features; where that fails a warning says so."""
        self._slots.write_record(image_id, key, features.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def feature_store(
    model: PreTrainedModel, trainer: TrainerSection, folder: Path, image_ids: Sequence[str]
) -> FeatureStore | None:
    """The store that `trainer.feature_cache` asks for, or None.

    Args:
        model: the base model, with its adapter's layers in place.
        trainer: the config.
        folder: where caches on disk lie.
        image_ids: of the training images.

    Raises:
        ConfigError: a cache on disk is asked for, and the adapter changes the features.
        DataError: as for `FeatureCache`.
    """
    if trainer.feature_cache == "none":
        return None
    if features_are_fixed(model):
        on_disk = trainer.feature_cache == "disk"
        return FeatureStore(model, FeatureCache(folder, model, trainer.precision, image_ids) if on_disk else None)
    if trainer.feature_cache == "disk":
        raise ConfigError(
            ["trainer.feature_cache=disk: this adapter changes the vision tower or the projector, and so the features "
             "of images in every step: use trainer.feature_cache=none, or adapter.target=language"]
        )  # fmt: skip
    log.info("trainer.feature_cache=step: the adapter changes the features of images, so they are computed every time")
    return None


def _key(sample: EncodedSample) -> str:
    """Of the pixels as the vision tower gets them."""
    digest = blake2b(sample.pixels.numpy().data, digest_size=16)
    digest.update(repr(sample.scale).encode())
    return digest.hexdigest()
