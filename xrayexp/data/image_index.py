"""What `xrayexp data check` found in every image file, kept for training and for the next check.

A folder of parquet files, one per data folder:

    00000007.parquet   records; of two about one file, that in the file with the larger number holds
    .lock              held by the one check that may write

A file is written under another name, flushed, and renamed, so that a process that is killed loses what it had not
written yet and damages nothing. A record holds while its image file keeps its size and its time of change.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xrayexp.data.appearance import CONSTANT, suspicions
from xrayexp.errors import DataError, UserError
from xrayexp.replacing import replaced

if TYPE_CHECKING:
    import pandas as pd

    from xrayexp.data.files import ImageFiles

log = logging.getLogger(__name__)

INDEX_FORMAT = 1  # to be raised when records change their form or what is measured its meaning

State = tuple[int, int]  # of a file: bytes, time of change in nanoseconds


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image file.

    Attributes:
        file: place below the data folder.
        bytes: of the file.
        changed_ns: its time of change.
        limit: `data.max_megapixels` when it was read; infinite for none.
        reason: why it cannot be read; empty for one that can. Then the rest is 0.
        height: in pixels, after EXIF rotation.
        width: in pixels.
        low: smallest grey value in the file's own range.
        high: largest one.
        digest: of size and 8-bit grey values: the same for images that a model cannot tell apart.
        coloured: share of the pixels that are no shade of grey.
        one_grey: see `xrayexp.data.appearance.Appearance`.
        upright: likewise.
        turned: likewise.
        inverted: likewise.
    """

    file: str
    bytes: int
    changed_ns: int
    limit: float
    reason: str = ""
    height: int = 0
    width: int = 0
    low: float = 0.0
    high: float = 0.0
    digest: str = ""
    coloured: float = 0.0
    one_grey: float = 0.0
    upright: float = 0.0
    turned: float = 0.0
    inverted: float = 0.0


COLUMNS = tuple(field.name for field in fields(ImageRecord))


class ImageIndex:
    """The records of one data folder.

    Args:
        cache_dir: holds the indices of all data folders.
        root: the data folder.
    """

    def __init__(self, cache_dir: Path, root: Path) -> None:
        identity = blake2b(f"{INDEX_FORMAT} {root.resolve()}".encode(), digest_size=8).hexdigest()
        self.folder = cache_dir / f"images-{identity}"

    def read(self) -> pd.DataFrame:
        """The records, `COLUMNS`, one per file; none where nothing was checked yet."""
        import pandas as pd

        while True:
            try:
                read = [_read(part) for part in self._parts()]
            except FileNotFoundError:
                continue  # a check has just put its parts together
            tables = [table for table in read if table is not None]
            if not tables:
                return _table([])
            return pd.concat(tables, ignore_index=True).drop_duplicates("file", keep="last", ignore_index=True)

    def add(self, records: Sequence[ImageRecord]) -> None:
        """Keeps records for good; to be called within `writing`, which explains what goes wrong."""
        self._write(_table(records))

    def put_together(self) -> None:
        """Makes one file of many."""
        parts = self._parts()
        if len(parts) > 1:
            self._write(self.read())
            for part in parts:
                part.unlink()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps other checks of the same folder away.

        Raises:
            UserError: one is under way.
            DataError: the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise UserError(f"another `xrayexp data check` of this folder is under way ({error.lock_file})") from error
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written ({error}); set data.cache_dir") from error

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.parquet"))

    def _write(self, table: pd.DataFrame) -> None:
        number = max((int(part.stem) for part in self._parts()), default=0) + 1
        path = self.folder / f"{number:08d}.parquet"
        with replaced(path) as temporary, temporary.open("wb") as file:
            table.to_parquet(file, index=False, compression="zstd")
            file.flush()
            os.fsync(file.fileno())


def file_states(root: Path, files: Iterable[str]) -> dict[str, State]:
    """Size and time of change of files below `root`; those that have vanished are left out."""

    def state(file: str) -> State | None:
        try:
            about = (root / file).stat()
        except OSError:
            return None
        return about.st_size, about.st_mtime_ns

    files = list(files)
    with ThreadPoolExecutor() as pool:  # a network drive answers many at once as fast as one
        return {file: found for file, found in zip(files, pool.map(state, files), strict=True) if found is not None}


def holding(index: pd.DataFrame, states: dict[str, State], limit: float) -> pd.DataFrame:
    """The records of an index that still hold.

    Args:
        index: of `ImageIndex.read`.
        states: of the files that are asked about.
        limit: `data.max_megapixels`, infinite for none. An image that was read within another limit is fine when it
            fits this one; why one could not be read may have been that limit.
    """
    rows = index[["file", "bytes", "changed_ns"]].itertuples(index=False, name=None)
    unchanged = np.array([states.get(file) == (size, changed) for file, size, changed in rows], dtype=bool)
    fits = (index["reason"] == "") & (index["height"] * index["width"] <= limit * 1e6)
    return index[unchanged & ((index["limit"] == limit) | fits)].reset_index(drop=True)


@dataclass(frozen=True)
class Faults:
    """What an index says against images, by ImageID; the values are sentences.

    Attributes:
        broken: cannot be read, or constant.
        suspect: do not look like a chest.
    """

    broken: dict[str, str]
    suspect: dict[str, str]


def known_faults(index: pd.DataFrame, images: ImageFiles) -> Faults:
    """The faults of images that are known and still hold; only the files in question are asked for their state."""
    names = {file: image_id for image_id, file in images.found.items()}
    reasons = index.assign(suspicion=suspicions(index))
    accused = reasons[((index["reason"] != "") | (reasons["suspicion"] != "")) & index["file"].isin(names)]
    limit = float("inf") if images.max_megapixels is None else images.max_megapixels
    faults = Faults({}, {})
    held = holding(accused, file_states(images.root, accused["file"]), limit)
    for file, reason, suspicion in held[["file", "reason", "suspicion"]].astype(str).itertuples(index=False, name=None):
        if reason or suspicion == CONSTANT:
            faults.broken[names[file]] = reason or f"{images.root / file}: {CONSTANT}"
        else:
            faults.suspect[names[file]] = f"{images.root / file}: {suspicion}"
    return faults


def _read(part: Path) -> pd.DataFrame | None:
    """One file of an index, or None where it is damaged: then its images count as not looked at.

    Raises:
        FileNotFoundError: it is gone.
    """
    import pandas as pd

    try:
        return pd.read_parquet(part)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: its images count as not looked at (%s)", part, error)
        return None


def _table(records: Sequence[ImageRecord]) -> pd.DataFrame:
    import pandas as pd

    types: dict[str, Any] = {"str": object, "int": "int64", "float": "float64"}
    table = pd.DataFrame([asdict(record) for record in records], columns=list(COLUMNS))
    return table.astype({field.name: types[str(field.type)] for field in fields(ImageRecord)})
