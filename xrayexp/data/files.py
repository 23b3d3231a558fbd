"""Which image files are there, by listing folders rather than asking for every file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from xrayexp.errors import DataError


def absent_images(root: Path, folders: Mapping[str, str]) -> dict[str, str]:
    """Images that cannot be read from a folder, and why: no file, or one that a link puts elsewhere.

    Args:
        root: holds the images, in one folder per `ImageDir` or all together.
        folders: the `ImageDir` of each image.
    """
    inside = root.resolve()
    flat, nested = _listed(root, inside), {name: _listed(root / name, inside) for name in set(folders.values())}
    reasons = {}
    for image_id, folder in folders.items():
        found = nested[folder].get(image_id, flat.get(image_id))
        if found is None:
            reasons[image_id] = f"{root / folder / image_id}: no such file"
        elif not found:
            reasons[image_id] = f"{root / folder / image_id}: a link leads out of {root}"
    return reasons


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
