"""Reads many images in threads, in order, without those that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from xrayexp.errors import DataError
from xrayexp.progress import watch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xrayexp.baselines.base import Image

log = logging.getLogger(__name__)

TOGETHER = 64  # images that are handed to the threads at once, so that Ctrl-C is heard


def read_images(
    title: str, image_ids: Sequence[str], image: Image, prepared: Callable[[NDArray[np.uint8]], NDArray[Any]]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """What is made of each image, and its place among the ids.

    Args:
        title: of the progress bar.
        image_ids: in this order.
        image: of an id, [height, width].
        prepared: what is made of an image, in a thread.
    """

    def one(image_id: str) -> NDArray[Any] | None:
        try:
            return prepared(image(image_id))
        except DataError as error:
            log.warning("left out: %s", error)
            return None

    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
        for place, found in enumerate(watch(f"{title} read", _in_turn(pool, one, image_ids), len(image_ids))):
            if found is not None:
                yield place, found


def _in_turn(pool: ThreadPoolExecutor, work: Callable[[str], Any], items: Sequence[str]) -> Iterator[Any]:
    """Results in order."""
    for start in range(0, len(items), TOGETHER):
        yield from pool.map(work, items[start : start + TOGETHER])
