"""Packages that were not written to be imported by others: what they do on import or on use ends with a block."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


def imported(name: str) -> ModuleType:
    """Imports a module; the warning filters that it sets for the whole process are undone."""
    with warnings.catch_warnings():
        return importlib.import_module(name)


@contextmanager
def replaced(owner: ModuleType | type, **replacements: Any) -> Iterator[None]:
    """Within the block, names of a module or methods of a class mean something else.

    Args:
        owner: the module or class.
        replacements: by name; each name must be there already.
    """
    own = {name: vars(owner)[name] for name in replacements if name in vars(owner)}
    inherited = [name for name in replacements if name not in own and getattr(owner, name)]
    for name, replacement in replacements.items():
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for name, original in own.items():
            setattr(owner, name, original)
        for name in inherited:
            delattr(owner, name)
