"""The allocator's choice: set before torch reads it, and never against the user's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from xrayexp.memory.segments import EXPANDABLE, VARIABLES, allocator, use_expandable_segments

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="torch has expandable segments on Linux alone")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """An environment in which nobody has chosen."""
    with patch.dict(os.environ):
        for name in VARIABLES:
            os.environ.pop(name, None)
        yield


@on_linux
def test_segments_grow_unless_switched_off() -> None:
    assert "fixed size" in allocator(wanted=False).detail
    assert allocator(wanted=True).detail == "expandable segments"
    use_expandable_segments(wanted=False)
    assert VARIABLES[0] not in os.environ
    use_expandable_segments(wanted=True)
    assert os.environ[VARIABLES[0]] == EXPANDABLE
    assert EXPANDABLE in allocator(wanted=True).detail


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_has_set_stays(name: str) -> None:
    os.environ[name] = "max_split_size_mb:128"
    use_expandable_segments(wanted=True)
    assert {other: os.environ.get(other) for other in VARIABLES} == {
        other: "max_split_size_mb:128" if other == name else None for other in VARIABLES
    }
    assert allocator(wanted=True).detail == f"{name}=max_split_size_mb:128"
