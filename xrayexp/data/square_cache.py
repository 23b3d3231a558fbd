"""Decoded, preprocessed, resized images on a fast disk: read once from 5-megapixel files, then at memory speed.

A folder of three files:

    names.txt   the ImageID of every slot, one a line; grows under a lock, before training starts
    squares.u8  the slots, [slots, size, size] in bytes; sparse, so that an empty slot takes no room
    marks.u32   a checksum for every slot that is filled, 0 for one that is not

A slot is written before its mark, and a slot whose checksum differs counts as empty. So a process that is killed, a
disk that fills up and a power cut cost images that are prepared again, never wrong ones. Two processes that fill a
slot at once write the same bytes. The folder's name changes with whatever changes the squares.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from xrayexp.errors import DataError, is_disk_full

log = logging.getLogger(__name__)

CACHE_FORMAT = 1
_MARK = 4  # bytes
GIB = 2**30


class SquareCache:
    """Squares by ImageID; to be made in the main process and sent to the workers.

    Args:
        folder: where all caches lie.
        about: whatever the squares depend on: data folder, preprocessing, filter.
        size: pixels of a side.
        image_ids: the images that may be asked for.

    Raises:
        DataError: the folder cannot be written, or its disk has no room for the images that are missing.
    """

    def __init__(self, folder: Path, about: Sequence[object], size: int, image_ids: Sequence[str]) -> None:
        identity = json.dumps([CACHE_FORMAT, size, *map(str, about)])
        self.folder = folder / f"squares-{size}-{blake2b(identity.encode(), digest_size=8).hexdigest()}"
        self.size = size
        self._files: tuple[int, int] | None = None  # descriptors, opened by every process for itself
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                self._slots = self._grow(list(dict.fromkeys(image_ids)))
        except OSError as error:
            raise DataError(
                f"{self.folder}: the image cache cannot be made here ({error}); set data.cache_dir"
            ) from error
        self._check_room(image_ids)

    def read(self, image_id: str) -> NDArray[np.uint8] | None:
        """The square [size, size], or None where its slot is empty or damaged."""
        squares, marks = self._open()
        slot, length = self._slots[image_id], self.size**2
        stored = int.from_bytes(os.pread(marks, _MARK, slot * _MARK), "little")
        if not stored:
            return None
        content = os.pread(squares, length, slot * length)
        if len(content) != length or _checksum(content) != stored:
            return None
        return np.frombuffer(content, dtype=np.uint8).reshape(self.size, self.size)

    def write(self, image_id: str, square: NDArray[np.uint8]) -> None:
        """Fills a slot.

        Raises:
            DataError: the disk is full.
        """
        squares, marks = self._open()
        slot, content = self._slots[image_id], square.tobytes()
        try:
            _write_all(squares, content, slot * len(content))
            _write_all(marks, _checksum(content).to_bytes(_MARK, "little"), slot * _MARK)
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise DataError(
                f"{self.folder}: no room left for the image cache; set data.cache=none or cache_dir"
            ) from error

    def filled(self, image_ids: Sequence[str]) -> int:
        """How many of these images are there already."""
        marks = np.fromfile(self.folder / "marks.u32", dtype="<u4")
        return int(np.count_nonzero(marks[[self._slots[image_id] for image_id in image_ids]]))

    def _grow(self, image_ids: list[str]) -> dict[str, int]:
        """Gives every image a slot."""
        path = self.folder / "names.txt"
        content = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = content[: content.rfind("\n") + 1]  # a line cut off by a kill is written again
        slots = {name: number for number, name in enumerate(whole.splitlines())}
        new = [image_id for image_id in image_ids if image_id not in slots]
        if new or whole != content:
            with path.open("r+" if path.exists() else "w", encoding="utf-8", newline="\n") as file:
                file.truncate(len(whole.encode()))
                file.seek(0, os.SEEK_END)
                file.writelines(f"{name}\n" for name in new)
                file.flush()
                os.fsync(file.fileno())
        slots.update({name: number for number, name in enumerate(new, start=len(slots))})
        for name, each in (("squares.u8", self.size**2), ("marks.u32", _MARK)):
            with (self.folder / name).open("ab") as file:
                if file.tell() < len(slots) * each:
                    file.truncate(len(slots) * each)
        return slots

    def _check_room(self, image_ids: Sequence[str]) -> None:
        """Says how large the cache will be, before anything is written."""
        filled = self.filled(image_ids)
        each = self.size**2
        missing, free = (len(image_ids) - filled) * each, shutil.disk_usage(self.folder).free
        log.info(
            "image cache: %s images of %d x %d pixels take %.2f GiB in %s; %s are there, %.2f GiB will be written",
            f"{len(image_ids):,}", self.size, self.size, len(image_ids) * each / GIB, self.folder, f"{filled:,}",
            missing / GIB,
        )  # fmt: skip
        if missing > free:
            raise DataError(
                f"{self.folder}: the image cache needs {missing / GIB:.1f} GiB more and the disk has {free / GIB:.1f}: "
                "set data.cache_dir to a larger disk, data.max_images, or data.cache=none"
            )

    def _open(self) -> tuple[int, int]:
        if self._files is None:
            self._files = (
                os.open(self.folder / "squares.u8", os.O_RDWR),
                os.open(self.folder / "marks.u32", os.O_RDWR),
            )
        return self._files

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_files": None}


def _checksum(content: bytes) -> int:
    return zlib.crc32(content) or 1


def _write_all(file: int, content: bytes, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(file, content[written:], offset + written)
