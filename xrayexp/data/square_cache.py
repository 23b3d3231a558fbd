"""Decoded, preprocessed, resized images on a fast disk: read once from 5-megapixel files, then at memory speed.

A folder of four files:

    about.txt    what the squares depend on, in words
    names.jsonl  the ImageID of every slot, one a line; grows under a lock, before training starts
    squares.u8   the slots, [slots, size, size] in bytes; sparse, so that an empty slot takes no room
    marks.u32    a checksum for every slot that is filled, 0 for one that is not

A slot is written before its mark, and a slot whose checksum differs counts as empty. The checksum is over the square,
its ImageID and the version of its image. So a process that is killed, a disk that fills up and a power cut cost images
that are prepared again, never wrong ones, and so does an image file that changes. Two processes that fill a slot at
once write the same bytes. The folder's name changes with whatever else changes the squares.

Squares are read at their place in the file rather than mapped, which is as fast: mapped pages would count as memory of
every worker, and a bad block would end it by SIGBUS where a read costs one image.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import weakref
import zlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from hashlib import blake2b
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from xrayexp.errors import DataError

log = logging.getLogger(__name__)

CACHE_FORMAT = 2  # to be raised with every change of these files, or of what an image becomes
_MARK = 4  # bytes
_BLOCK = 512  # bytes, the unit of `st_blocks`
GIB = 2**30


class SquareCache:
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
        words = "\n".join([f"format {CACHE_FORMAT}", f"{size} x {size} pixels", *about])
        self.folder = folder / f"squares-{size}-{blake2b(words.encode(), digest_size=8).hexdigest()}"
        self.size = size
        self._files: tuple[int, int] | None = None  # descriptors, opened by every process for itself
        self._warned = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                (self.folder / "about.txt").write_text(words + "\n", encoding="utf-8")  # also says when it was used
                self._slots, whole = self._named()
                new = [image_id for image_id in dict.fromkeys(image_ids) if image_id not in self._slots]
                self._check_room(image_ids)
                self._grow(new, whole)
        except OSError as error:
            raise DataError(
                f"{self.folder}: the image cache cannot be made here ({error}); set data.cache_dir"
            ) from error
        # Another process may be removing one of them.
        with suppress(FileNotFoundError):
            _tell_of_others(self.folder)

    def read(self, image_id: str, version: str) -> NDArray[np.uint8] | None:
        """The square [size, size], or None where its slot is empty, damaged or of another version of the image."""
        slot, square = self._slots[image_id], np.empty((self.size, self.size), dtype=np.uint8)
        try:
            squares, marks = self._open()
            mark = os.pread(marks, _MARK, slot * _MARK)
            if not any(mark) or os.preadv(squares, [square.data], slot * square.nbytes) != square.nbytes:
                return None
        except OSError as error:
            self._warn("an image cannot be read here and is prepared again", error)
            return None
        return square if mark == _mark(square, image_id, version) else None

    def write(self, image_id: str, version: str, square: NDArray[np.uint8]) -> None:
        """Fills a slot. Where that fails, as on a full disk, a warning says so and the image is prepared again."""
        slot = self._slots[image_id]
        try:
            squares, marks = self._open()
            _write_all(squares, square.tobytes(), slot * square.nbytes)
            _write_all(marks, _mark(square, image_id, version), slot * _MARK)
        except OSError as error:
            self._warn("an image cannot be kept here and is prepared every time", error)

    def filled(self, image_ids: Sequence[str]) -> int:
        """How many of these images are there already."""
        path = self.folder / "marks.u32"
        marks = np.fromfile(path, dtype="<u4") if path.exists() else np.zeros(0, dtype="<u4")
        slots = np.array([self._slots.get(image_id, len(marks)) for image_id in image_ids], dtype=np.int64)
        return int(np.count_nonzero(marks[slots[slots < len(marks)]]))

    def _named(self) -> tuple[dict[str, int], int]:
        """The slots that have a name, and the bytes that these names take: a line cut off by a kill ends them."""
        path = self.folder / "names.jsonl"
        slots: dict[str, int] = {}
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            try:
                name = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                break
            if not isinstance(name, str):
                break
            slots[name] = len(slots)
            whole += len(line)
        return slots, whole

    def _grow(self, new: Sequence[str], whole: int) -> None:
        """Gives new images a slot."""
        path = self.folder / "names.jsonl"
        path.touch()
        if new or whole != path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(whole)
                file.seek(whole)
                file.writelines(json.dumps(name).encode() + b"\n" for name in new)
                file.flush()
                os.fsync(file.fileno())
        self._slots.update({name: number for number, name in enumerate(new, start=len(self._slots))})
        for name, each in (("squares.u8", self.size**2), ("marks.u32", _MARK)):
            with (self.folder / name).open("ab") as file:
                if file.tell() < len(self._slots) * each:
                    file.truncate(len(self._slots) * each)

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
                "remove caches that no run needs, set data.cache_dir to a larger disk, data.max_images, or "
                "data.cache=none"
            )

    def _warn(self, what: str, error: OSError) -> None:
        """Once in a process: where one image fails, thousands may."""
        if not self._warned:
            self._warned = True
            log.warning("%s: %s (%s)", self.folder, what, error)

    def _open(self) -> tuple[int, int]:
        if self._files is None:
            self._files = (
                os.open(self.folder / "squares.u8", os.O_RDWR),
                os.open(self.folder / "marks.u32", os.O_RDWR),
            )
            weakref.finalize(self, _close, self._files)
        return self._files

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_files": None}


def _tell_of_others(folder: Path) -> None:
    """Names the caches beside this one with their size: other settings leave theirs behind."""
    others = [other for other in folder.parent.glob("squares-*") if other != folder and other.is_dir()]
    if not others:
        return
    taken = sum(file.stat().st_blocks * _BLOCK for other in others for file in other.iterdir())
    oldest = min(others, key=_used)
    log.info(
        "image cache: others in %s take %.2f GiB (%d in all, the one not used for longest is %s, %s). Each one's "
        "about.txt says what it is for; remove the folders that no run needs",
        folder.parent, taken / GIB, len(others), oldest.name, date.fromtimestamp(_used(oldest)),
    )  # fmt: skip


def _used(folder: Path) -> float:
    """When a run last began to use a cache, in seconds since 1970."""
    file = folder / "about.txt"
    return (file if file.exists() else folder).stat().st_mtime


def _mark(square: NDArray[np.uint8], image_id: str, version: str) -> bytes:
    """The checksum of a square and of what it was made from, never 0."""
    checksum = zlib.crc32(np.ascontiguousarray(square).data, zlib.crc32(f"{image_id}\n{version}".encode())) or 1
    return checksum.to_bytes(_MARK, "little")


def _close(files: tuple[int, int]) -> None:
    for file in files:
        os.close(file)


def _write_all(file: int, content: bytes, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(file, content[written:], offset + written)
