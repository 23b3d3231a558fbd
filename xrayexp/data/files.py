"""Where image files lie in a data set's folder, and which are there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xrayexp.errors import DataError

ENDINGS = (".png", ".jpg", ".jpeg")  # PadChest's own, and those of mirrors that are stored smaller


def places(folder: str, image_id: str) -> Iterator[str]:
    """Where an image may lie below the root folder, the first choice first.

    In its folder or among all others in the root folder; under its name or, in a mirror, as a JPEG of the same name.
    """
    stem = PurePosixPath(image_id).stem
    for name in (image_id, *(f"{stem}{ending}" for ending in ENDINGS[1:])):
        yield f"{folder}/{name}"
        yield name


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a folder.

    Attributes:
        root: the folder.
        found: ImageID -> the file's place below `root`, with slashes.
        absent: ImageID -> why there is no file that may be read.
        max_megapixels: larger images are refused; None for no limit.
    """

    root: Path
    found: Mapping[str, str]
    absent: Mapping[str, str]
    max_megapixels: float | None = None

    def of(self, image_ids: Iterable[str]) -> ImageFiles:
        """Those of these images alone."""
        wanted = frozenset(image_ids)
        found, absent = ({i: v for i, v in each.items() if i in wanted} for each in (self.found, self.absent))
        return ImageFiles(self.root, found, absent, self.max_megapixels)


def find_images(root: Path, folders: Mapping[str, str], max_megapixels: float | None = None) -> ImageFiles:
    """Looks for images; one without a file, or whose link puts it elsewhere, is absent.

    Folders are listed, which is faster than to ask for every file.

    Args:
        root: holds the images, see `places`.
        folders: the `ImageDir` of each image.
        max_megapixels: passed on.
    """
    inside = root.resolve()
    listed = _listed(root, inside)
    for folder in set(folders.values()):
        listed |= {f"{folder}/{name}": kept for name, kept in _listed(root / folder, inside).items()}
    found, absent = {}, {}
    for image_id, folder in folders.items():
        place = next((place for place in places(folder, image_id) if place in listed), None)
        if place is None:
            absent[image_id] = f"{root / folder / image_id}: no such file"
        elif not listed[place]:
            absent[image_id] = f"{root / folder / image_id}: a link leads out of {root}"
        else:
            found[image_id] = place
    return ImageFiles(root, found, absent, max_megapixels)


def file_version(path: Path) -> str:
    """Changes whenever a file is written anew.

    Raises:
        DataError: there is no such file.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: no such file") from error
    return f"{state.st_size} bytes at {state.st_mtime_ns} ns"


def _listed(folder: Path, inside: Path) -> dict[str, bool]:
    """The names in a folder, and whether each one's content lies below `inside`."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    own = folder.resolve().is_relative_to(inside)
    return {
        entry.name: Path(entry.path).resolve().is_relative_to(inside) if entry.is_symlink() else own
        for entry in entries
    }
