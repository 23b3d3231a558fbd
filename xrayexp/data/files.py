"""Which image files are there, by listing folders rather than asking for every file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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


def find_images(root: Path, folders: Mapping[str, str], max_megapixels: float | None = None) -> ImageFiles:
    """Looks for images; one without a file, or whose link puts it elsewhere, is absent.

    Args:
        root: holds the images, in one folder per `ImageDir` or all together.
        folders: the `ImageDir` of each image.
        max_megapixels: passed on.
    """
    inside = root.resolve()
    flat, nested = _listed(root, inside), {name: _listed(root / name, inside) for name in set(folders.values())}
    found, absent = {}, {}
    for image_id, folder in folders.items():
        own = image_id in nested[folder]
        readable = nested[folder][image_id] if own else flat.get(image_id)
        if readable is None:
            absent[image_id] = f"{root / folder / image_id}: no such file"
        elif not readable:
            absent[image_id] = f"{root / folder / image_id}: a link leads out of {root}"
        else:
            found[image_id] = f"{folder}/{image_id}" if own else image_id
    return ImageFiles(root, found, absent, max_megapixels)


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
