"""From image files to 8-bit grey values.

PadChest's PNGs are 16-bit files that hold 10 or 12 bits, and the range used varies: scaling by a constant
gives near-black images. Pillow's `convert("L")` on them gives white ones. So deep images are scaled one by
one, by robust percentiles, and only 8-bit images are converted by Pillow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrayexp.data.dicom import dicom_shape, is_dicom, read_dicom
from xrayexp.data.size_limit import check_size
from xrayexp.errors import DataError

PERCENTILES = (0.5, 99.5)
"""Grey values at these percentiles become 0 and 255: collimator edges and burnt-in markers do not count."""

MID_GREY = 128

_GRID = 512  # percentiles are taken over every n-th pixel, at least this many a side: 15 times faster

_ROWS = 16  # of an image, looked up together

_ON_ITS_SIDE = 5  # EXIF orientations from here on swap height and width

_DEEP_MODES = ("I", "F")  # the first letter of Pillow's modes with more than 8 bits: I, I;16, I;16B, F


def to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey values to 8 bits.

    uint8 passes unchanged. Everything else is scaled linearly, so that `PERCENTILES` become 0 and 255, and
    clipped; where these percentiles coincide (nearly all pixels alike), the smallest and largest value take
    their place. A constant image has no contrast to keep: every pixel becomes `MID_GREY`.

    Args:
        array: grey values of any real type, [height, width].

    Returns:
        [height, width], uint8.

    Raises:
        DataError: not [height, width], empty, or with values that are not finite.
    """
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"Expected an image [height, width], got shape {array.shape}.")
    if array.dtype == np.uint8:
        return array
    if not np.isfinite(array).all():
        raise DataError("The image holds values that are not finite.")
    down, right = (max(1, length // _GRID) for length in array.shape)
    low, high = np.percentile(array[::down, ::right].astype(np.float32), PERCENTILES)
    if low == high:
        low, high = array.min(), array.max()
    if low == high:
        return np.full(array.shape, MID_GREY, dtype=np.uint8)
    if array.dtype == np.uint16:  # a table of all values that there can be: 10 times faster
        table = _scaled(np.arange(2**16, dtype=np.uint16), low, high)
        return _looked_up(table, array)
    return _scaled(array, low, high)


def _looked_up(table: NDArray[np.uint8], array: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """`table[array]`, some rows at a time: numpy makes indices of 8 bytes, and these stay in the processor's cache."""
    out = np.empty(array.shape, dtype=np.uint8)
    for top in range(0, len(array), _ROWS):
        np.take(table, array[top : top + _ROWS], out=out[top : top + _ROWS], mode="clip")
    return out


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    shares: NDArray[np.float32] = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)
    return (shares * 255).round().astype(np.uint8)


def read_image(path: str | Path, max_megapixels: float | None = None) -> NDArray[np.uint8]:
    """Read an image file as a viewer would show it, in grey, [height, width]: `read_values`, scaled by `to_uint8`.

    Args:
        path: of a PNG, a JPEG, another format of Pillow's, or a DICOM file.
        max_megapixels: larger images are refused before they are decoded; None for Pillow's own limit.

    Raises:
        DataError: the file is missing, truncated, too large or no image. Names the file.
    """
    values = read_values(path, max_megapixels)
    try:
        return to_uint8(values)
    except DataError as error:
        raise _unreadable(path, error) from error


def read_values(path: str | Path, max_megapixels: float | None = None) -> NDArray[Any]:
    """The grey values of an image file in their own range, [height, width].

    EXIF rotation is applied; colours become luminance, palettes are looked up, transparency is ignored, and of
    several frames the first is read. DICOM files are told by their content, whatever their name, see
    `xrayexp.data.dicom`.

    Args:
        path: as for `read_image`.
        max_megapixels: as for `read_image`.

    Raises:
        DataError: the file is missing, truncated, too large or no image. Names the file.
    """
    from PIL import Image

    try:
        return read_dicom(path, max_megapixels) if is_dicom(path) else _read_with_pillow(path, max_megapixels)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    # Pillow reports a broken file by any of these, depending on the format and on where it is broken.
    except (OSError, SyntaxError, ValueError, EOFError, DataError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def image_shape(path: str | Path) -> tuple[int, int]:
    """Height and width that `read_image` would give, in pixels, without decoding the image.

    Raises:
        DataError: the file is missing or no image. Names the file.
    """
    from PIL import ExifTags, Image

    try:
        if is_dicom(path):
            return dicom_shape(path)
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= _ON_ITS_SIDE
            return (image.width, image.height) if turned else (image.height, image.width)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, SyntaxError, ValueError, EOFError, DataError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read as an image ({error})")


def _read_with_pillow(path: str | Path, max_megapixels: float | None) -> NDArray[Any]:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        check_size(image.width, image.height, max_megapixels)
        ImageOps.exif_transpose(image, in_place=True)
        image.info.pop("transparency", None)
        deep = image.mode.startswith(_DEEP_MODES)
        return np.array(image if deep else image.convert("L"))


def pad_to_square(array: NDArray[np.uint8], value: int = 0) -> NDArray[np.uint8]:
    """Centre an image [height, width] on a square of its longer side, as MedGemma expects its input.

    Where the sides differ by an odd number, the larger margin is below or on the right.
    """
    height, width = array.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    margins = ((top, side - height - top), (left, side - width - left))
    return np.pad(array, margins, constant_values=value)


def fit_square(array: NDArray[np.uint8], size: int, resample: int) -> NDArray[np.uint8]:
    """Pad an image [height, width] to a square and resize it to [size, size]; what fits already stays as it is.

    Args:
        array: the image.
        size: pixels of a side.
        resample: Pillow's number of the filter.
    """
    from PIL import Image

    if array.shape == (size, size):
        return array
    square = Image.fromarray(pad_to_square(array))
    return np.array(square.resize((size, size), Image.Resampling(resample)))
