"""Tables of labels that metrics go by, to be read, doubted and replaced."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from xrayexp.errors import DataError


def table_path(name: str) -> Path:
    """A file of this folder."""
    return Path(str(files(__name__))) / name


def read_table(path: Path) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        DataError: the file cannot be read, or is no mapping.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as a table of labels ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: is no mapping")
    return found
