"""Decoded, preprocessed, resized images on a fast disk: read once from 5-megapixel files, then at memory speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xrayexp.data.slot_cache import Kind, SlotCache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CACHE_FORMAT = 2  # to be raised with every change of these files, or of what an image becomes


class SquareCache(SlotCache):
    """Squares by ImageID; to be made in the main process and sent to the workers.

    Args:
        folder: where all caches lie.
        about: whatever all squares depend on: data folder, preprocessing, filter.
        size: pixels of a side.
        image_ids: the images that may be asked for.

    Raises:
        DataError: the folder cannot be written, or its disk has no room for the images that are missing.
    """

    def __init__(self, folder: Path, about: Sequence[str], size: int, image_ids: Sequence[str]) -> None:
        kind = Kind(
            title="image cache",
            prefix=f"squares-{size}-",
            file="squares.u8",
            each=size**2,
            unit="an image",
            described=f"images of {size} x {size} pixels",
            remedy="data.cache=none",
        )
        super().__init__(folder, kind, [f"format {CACHE_FORMAT}", f"{size} x {size} pixels", *about], image_ids)
        self.size = size

    def read(self, image_id: str, version: str) -> NDArray[np.uint8] | None:
        """The square [size, size], or None where its slot is empty, damaged or of another version of the image."""
        record = self.read_record(image_id, version)
        return None if record is None else record.reshape(self.size, self.size)

    def write(self, image_id: str, version: str, square: NDArray[np.uint8]) -> None:
        """Fills a slot. Where that fails, as on a full disk, a warning says so and the image is prepared again."""
        self.write_record(image_id, version, square)
