"""Looks at image files: one record for each, in several processes, kept as they come."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xrayexp.data.appearance import appearance
from xrayexp.data.audit.processes import in_processes
from xrayexp.data.dicom import is_dicom
from xrayexp.data.image_index import ImageIndex, ImageRecord, State, file_states, holding
from xrayexp.data.images import read_values, to_uint8
from xrayexp.errors import DataError
from xrayexp.progress import watch

if TYPE_CHECKING:
    import pandas as pd

    from xrayexp.data.files import ImageFiles

log = logging.getLogger(__name__)

KEPT_EVERY = 10.0  # seconds of work that a kill may cost
COLOUR_MODES = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")  # Pillow's
COLOURED = 24  # of 255: more than that between the channels of a pixel is seen as colour
_COLOUR_SIDE = 64  # pixels of the image that is shrunk before its colours are looked at


@dataclass(frozen=True, slots=True)
class Task:
    """A file to look at: below `root`, as it is now, within `limit` megapixels."""

    root: Path
    file: str
    state: State
    limit: float


def examine(task: Task) -> ImageRecord:
    """Reads an image file as training would, and measures it."""
    path, known = task.root / task.file, (task.file, *task.state, task.limit)
    try:
        values = read_values(path, None if math.isinf(task.limit) else task.limit)
        image = to_uint8(values)
    except DataError as error:
        return ImageRecord(*known, reason=str(error))
    seen = appearance(image)
    return ImageRecord(
        *known,
        height=image.shape[0],
        width=image.shape[1],
        low=float(values.min()),
        high=float(values.max()),
        digest=_digest(image),
        coloured=_coloured(path),
        one_grey=seen.one_grey,
        upright=seen.upright,
        turned=seen.turned,
        inverted=seen.inverted,
    )


def examine_images(index: ImageIndex, images: ImageFiles, workers: int) -> pd.DataFrame:
    """Looks at every file that the index does not know as it is, and adds it.

    Args:
        index: goes on where an earlier call was stopped.
        images: the files.
        workers: number of processes.

    Returns:
        The records of these files.

    Raises:
        UserError: the index is in use, or cannot be written.
    """
    limit = math.inf if images.max_megapixels is None else images.max_megapixels
    states = file_states(images.root, images.found.values())
    with index.writing():
        known = frozenset(holding(index.read(), states, limit)["file"])
        todo = [Task(images.root, file, state, limit) for file, state in states.items() if file not in known]
        if todo:
            log.info(
                "images: %s are known, %s are read by %d processes; what is read stays known in %s",
                f"{len(known):,}", f"{len(todo):,}", workers, index.folder,
            )  # fmt: skip
            _examine(index, todo, workers)
            index.put_together()
    return holding(index.read(), states, limit)


def _examine(index: ImageIndex, todo: list[Task], workers: int) -> None:
    records: list[ImageRecord] = []
    kept = time.monotonic()
    try:
        for task, record in watch("images", in_processes(examine, todo, workers), len(todo)):
            records.append(record or _crashed(task))
            if time.monotonic() - kept >= KEPT_EVERY:
                index.add(records)
                records, kept = [], time.monotonic()
    finally:
        if records:
            index.add(records)


def _crashed(task: Task) -> ImageRecord:
    reason = f"{task.root / task.file}: cannot be read as an image (reading it ends the process)"
    return ImageRecord(task.file, *task.state, task.limit, reason=reason)


def _digest(image: NDArray[np.uint8]) -> str:
    return blake2b(np.ascontiguousarray(image).data, digest_size=16, salt=str(image.shape).encode()[:16]).hexdigest()


def _coloured(path: Path) -> float:
    """Share of the pixels that are no shade of grey."""
    from PIL import Image

    if is_dicom(path):
        return 0.0
    with Image.open(path) as file:
        if file.mode not in COLOUR_MODES:
            return 0.0
        small = file.convert("RGB").resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    channels = np.asarray(small, dtype=np.int16)  # [side, side, 3]
    return float((np.ptp(channels, axis=-1) > COLOURED).mean())
