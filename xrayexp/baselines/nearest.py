"""The report of the training image that looks most alike: what a score owes to looks that any eye would see."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xrayexp.baselines.base import Asked, Image, Training
from xrayexp.data.images import fit_square
from xrayexp.data.report import Report
from xrayexp.errors import ConfigError, DataError
from xrayexp.progress import watch

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

BLOCK = 4096  # images whose distances are computed together


class NearestNeighbour:
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

        def small(image_id: str) -> NDArray[np.uint8] | None:
            try:
                return fit_square(image(image_id), self.size, Resampling.BOX).ravel()
            except DataError as error:
                log.warning("left out: %s", error)
                return None

        found = np.empty((len(image_ids), self.size**2), dtype=np.uint8)
        places: list[int] = []
        with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
            for place, one in enumerate(watch(f"{title} read", _in_turn(pool, small, image_ids), len(image_ids))):
                if one is not None:
                    found[len(places)] = one
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


def _in_turn(pool: ThreadPoolExecutor, work: Callable[[str], Any], items: Sequence[str]) -> Iterator[Any]:
    """Results in order, of so few items at a time that Ctrl-C is heard."""
    for start in range(0, len(items), BLOCK // 64):
        yield from pool.map(work, items[start : start + BLOCK // 64])
