"""Records of one size on a fast disk, by name: made once, then read at memory speed.

A folder of four files:

    about.txt    what the records depend on, in words
    names.jsonl  the name of every slot, one a line; grows under a lock, before training starts
    RECORDS      the slots, one after the other in bytes; sparse, so that an empty slot takes no room
    marks.u32    a checksum for every slot that is filled, 0 for one that is not

A slot is written before its mark, and a slot whose checksum differs counts as empty. The checksum is over the record,
its name and the version of what it was made from. So a process that is killed, a disk that fills up and a power cut
cost records that are made again, never wrong ones, and so does a source that changes. Two processes that fill a slot at
once write the same bytes. The folder's name changes with whatever else changes the records.

Records are read at their place in the file rather than mapped, which is as fast: mapped pages would count as memory of
every process, and a bad block would end it by SIGBUS where a read costs one record.
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
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from xrayexp.errors import DataError

log = logging.getLogger(__name__)

_MARK = 4  # bytes
_BLOCK = 512  # bytes, the unit of `st_blocks`
GIB = 2**30


@dataclass(frozen=True)
class Kind:
    """What a cache keeps, for its files and for what is said of it.

    Attributes:
        title: of the cache.
        prefix: with which the names of all folders of this kind begin.
        file: of the records.
        each: bytes of a record.
        unit: what one record is of.
        described: what all records together are.
        remedy: what helps where a disk is too small.
    """

    title: str
    prefix: str
    file: str
    each: int
    unit: str
    described: str
    remedy: str


class SlotCache:
    """Records by name; to be made in the main process and sent to the workers.

    Args:
        folder: where all caches lie.
        kind: of the records.
        about: whatever all records depend on.
        names: what may be asked for.

    Raises:
        DataError: the folder cannot be written, or its disk has no room for the records that are missing.
    """

    def __init__(self, folder: Path, kind: Kind, about: Sequence[str], names: Sequence[str]) -> None:
        words = "\n".join(about)
        self.folder = folder / f"{kind.prefix}{blake2b(words.encode(), digest_size=8).hexdigest()}"
        self.kind = kind
        self._files: tuple[int, int] | None = None  # descriptors, opened by every process for itself
        self._warned = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                (self.folder / "about.txt").write_text(words + "\n", encoding="utf-8")  # also says when it was used
                self._slots, whole = self._named()
                new = [name for name in dict.fromkeys(names) if name not in self._slots]
                self._check_room(names)
                self._grow(new, whole)
        except OSError as error:
            raise DataError(
                f"{self.folder}: the {kind.title} cannot be made here ({error}); set data.cache_dir"
            ) from error
        # Another process may be removing one of them.
        with suppress(FileNotFoundError):
            self._tell_of_others()

    def read_record(self, name: str, version: str) -> NDArray[np.uint8] | None:
        """The record [bytes], or None where its slot is empty, damaged or of another version."""
        slot, record = self._slots[name], np.empty(self.kind.each, dtype=np.uint8)
        try:
            records, marks = self._open()
            mark = os.pread(marks, _MARK, slot * _MARK)
            if not any(mark) or os.preadv(records, [record.data], slot * record.nbytes) != record.nbytes:
                return None
        except OSError as error:
            self._warn(f"{self.kind.unit} cannot be read here and is prepared again", error)
            return None
        return record if mark == _mark(record, name, version) else None

    def write_record(self, name: str, version: str, record: NDArray[np.uint8]) -> None:
        """Fills a slot. Where that fails, as on a full disk, a warning says so and the record is made again."""
        slot = self._slots[name]
        try:
            records, marks = self._open()
            _write_all(records, record.tobytes(), slot * self.kind.each)
            _write_all(marks, _mark(record, name, version), slot * _MARK)
        except OSError as error:
            self._warn(f"{self.kind.unit} cannot be kept here and is prepared every time", error)

    def filled(self, names: Sequence[str]) -> int:
        """How many of these are there already."""
        path = self.folder / "marks.u32"
        marks = np.fromfile(path, dtype="<u4") if path.exists() else np.zeros(0, dtype="<u4")
        slots = np.array([self._slots.get(name, len(marks)) for name in names], dtype=np.int64)
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
        """Gives new names a slot."""
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
        for name, each in ((self.kind.file, self.kind.each), ("marks.u32", _MARK)):
            with (self.folder / name).open("ab") as file:
                if file.tell() < len(self._slots) * each:
                    file.truncate(len(self._slots) * each)

    def _check_room(self, names: Sequence[str]) -> None:
        """Says how large the cache will be, before anything is written."""
        filled, kind = self.filled(names), self.kind
        missing, free = (len(names) - filled) * kind.each, shutil.disk_usage(self.folder).free
        log.info(
            "%s: %s %s take %.2f GiB in %s; %s are there, %.2f GiB will be written",
            kind.title, f"{len(names):,}", kind.described, len(names) * kind.each / GIB, self.folder, f"{filled:,}",
            missing / GIB,
        )  # fmt: skip
        if missing > free:
            raise DataError(
                f"{self.folder}: the {kind.title} needs {missing / GIB:.1f} GiB more and the disk has "
                f"{free / GIB:.1f}: remove caches that no run needs, set data.cache_dir to a larger disk, "
                f"data.max_images, or {kind.remedy}"
            )

    def _warn(self, what: str, error: OSError) -> None:
        """Once in a process: where one record fails, thousands may."""
        if not self._warned:
            self._warned = True
            log.warning("%s: %s (%s)", self.folder, what, error)

    def _open(self) -> tuple[int, int]:
        if self._files is None:
            self._files = (
                os.open(self.folder / self.kind.file, os.O_RDWR),
                os.open(self.folder / "marks.u32", os.O_RDWR),
            )
            weakref.finalize(self, _close, self._files)
        return self._files

    def _tell_of_others(self) -> None:
        """Names the caches beside this one with their size: other settings leave theirs behind."""
        folder, kind = self.folder, self.kind
        others = [other for other in folder.parent.glob(f"{kind.prefix.partition('-')[0]}-*") if other != folder]
        others = [other for other in others if other.is_dir()]
        if not others:
            return
        taken = sum(file.stat().st_blocks * _BLOCK for other in others for file in other.iterdir())
        oldest = min(others, key=_used)
        log.info(
            "%s: others in %s take %.2f GiB (%d in all, the one not used for longest is %s, %s). Each one's "
            "about.txt says what it is for; remove the folders that no run needs",
            kind.title, folder.parent, taken / GIB, len(others), oldest.name, date.fromtimestamp(_used(oldest)),
        )  # fmt: skip

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_files": None}


def _used(folder: Path) -> float:
    """When a run last began to use a cache, in seconds since 1970."""
    file = folder / "about.txt"
    return (file if file.exists() else folder).stat().st_mtime


def _mark(record: NDArray[np.uint8], name: str, version: str) -> bytes:
    """The checksum of a record and of what it was made from, never 0."""
    checksum = zlib.crc32(np.ascontiguousarray(record).data, zlib.crc32(f"{name}\n{version}".encode())) or 1
    return checksum.to_bytes(_MARK, "little")


def _close(files: tuple[int, int]) -> None:
    for file in files:
        os.close(file)


def _write_all(file: int, content: bytes, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(file, content[written:], offset + written)
