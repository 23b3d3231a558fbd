"""The largest image that is decoded: a small file can hold pixels for all the memory there is."""

from __future__ import annotations

from xrayexp.errors import DataError


def check_size(width: int, height: int, max_megapixels: float | None) -> None:
    """Raise DataError for an image of more pixels than wanted; None for no limit."""
    if max_megapixels is not None and width * height > max_megapixels * 1e6:
        raise DataError(f"{width} x {height} pixels, more than data.max_megapixels={max_megapixels:g}")
