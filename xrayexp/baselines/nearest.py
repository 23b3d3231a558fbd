"""The report of the training image that looks most alike: what a score owes to looks that any eye would see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from xrayexp.baselines.base import Asked, Baseline, Image, Training
from xrayexp.baselines.reading import read_images
from xrayexp.data.images import fit_square
from xrayexp.data.report import Report
from xrayexp.errors import ConfigError, DataError

BLOCK = 4096  # images whose distances are computed together


class NearestNeighbour(Baseline):
    """Copies the report of the nearest training image by the sum of squared differences of grey values.

    Images are padded to a square and averaged down. Of several training images that are equally near, the first.

    Args:
        size: pixels of a side of the small images.

    Raises:
        ConfigError: a side of no pixel.
    """

    def __init__(self, size: int = 32) -> None:
        if size < 1:
            raise ConfigError([f"size must be at least 1 pixel, not {size}"])
        self.size = size

    def answers(self, training: Training, asked: Asked) -> Iterator[tuple[str, Report]]:
        """Reads every training image once.

        Raises:
            DataError: none of them can be read.
        """
        known, rows = self._small("training images", [e.image_id for e in training.examples], training.image)
        if not len(known):
            raise DataError("none of the training images can be read: nothing can be near")
        asked_about, places = self._small("images asked about", asked.image_ids, asked.image)
        for place, near in zip(places, nearest(asked_about, known), strict=True):
            yield asked.image_ids[place], Report(training.examples[rows[near]].findings)

    def _small(self, title: str, image_ids: Sequence[str], image: Image) -> tuple[NDArray[np.uint8], list[int]]:
        """The small images [images, size x size] that can be read, and their places among the ids."""
        from PIL.Image import Resampling

        found = np.empty((len(image_ids), self.size**2), dtype=np.uint8)
        places: list[int] = []
        small = read_images(title, image_ids, image, lambda one: fit_square(one, self.size, Resampling.BOX).ravel())
        for place, pixels in small:
            found[len(places)] = pixels
            places.append(place)
        return found[: len(places)], places


def nearest(asked: NDArray[np.uint8], known: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The known image that is nearest to each that is asked about.

    Args:
        asked: [asked, pixels].
        known: [known, pixels], at least one.

    Returns:
        [asked]; the first of equally near ones. Distances are whole numbers below 2^53: exact.
    """
    best = np.full(len(asked), np.inf)
    found = np.zeros(len(asked), dtype=np.int64)
    for first in range(0, len(known), BLOCK):
        block = known[first : first + BLOCK].astype(np.float64)
        squares = (block**2).sum(axis=1)
        for start in range(0, len(asked), BLOCK):
            part = slice(start, start + BLOCK)
            # Without the square of the image asked about, which is the same for all of them.
            distances = squares - 2 * asked[part].astype(np.float64) @ block.T  # [part, block]
            near = distances.argmin(axis=1)
            least = distances[np.arange(len(near)), near]
            closer = least < best[part]
            found[part] = np.where(closer, first + near, found[part])
            best[part] = np.where(closer, least, best[part])
    return found
