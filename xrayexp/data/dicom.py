"""Grey values from DICOM files, through pydicom and, for compressed ones, Pillow and GDCM.

JPEG and JPEG 2000 are Pillow's. GDCM could read them too, but ends the process where a stream is damaged, and so is
left what Pillow lacks: lossless JPEG, 12-bit JPEG and JPEG-LS.

Only what every file has to say about its grey values is applied: the modality LUT or rescale, and MONOCHROME1, where
small values are bright. The viewer's window is left out: in some files it is the text 'None', in others made for a
screen of 1998, and `to_uint8` scales by the values themselves.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from xrayexp.data.size_limit import check_size
from xrayexp.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PREAMBLE = 128  # bytes before the letters that tell a DICOM file
_LETTERS = b"DICM"


def is_dicom(path: str | Path) -> bool:
    """Whether a file is a DICOM file, by its content.

    Raises:
        OSError: the file cannot be opened.
    """
    with Path(path).open("rb") as file:
        return file.read(_PREAMBLE + len(_LETTERS))[_PREAMBLE:] == _LETTERS


def read_dicom(path: str | Path, max_megapixels: float | None = None) -> NDArray[Any]:
    """The grey values of a DICOM file's first frame, bright where little radiation came through, [height, width].

    Args:
        path: of the file.
        max_megapixels: larger images are refused before they are decoded.

    Raises:
        DataError: no grey image, too large, broken, or compressed in a way that no installed decoder reads.
        OSError, ValueError: broken, too.
    """
    from pydicom.errors import BytesLengthException

    try:
        return _grey_values(path, max_megapixels)
    # pydicom reads elements when they are asked for: any of these may come from anywhere in a broken file.
    except (AttributeError, KeyError, TypeError, RuntimeError, BytesLengthException, struct.error) as error:
        raise DataError(f"a DICOM file with broken elements or pixels: {error}") from error


def dicom_shape(path: str | Path) -> tuple[int, int]:
    """Height and width of a DICOM file's image, in pixels.

    Raises:
        DataError: it has no image, or is broken.
        OSError: it cannot be read.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        file = pydicom.dcmread(path, stop_before_pixels=True)
        return int(file.Rows), int(file.Columns)
    except (InvalidDicomError, AttributeError, KeyError, TypeError, ValueError, struct.error) as error:
        raise DataError(f"a DICOM file with broken elements, or without image: {error}") from error


def _grey_values(path: str | Path, max_megapixels: float | None) -> NDArray[Any]:
    import pydicom
    from pydicom.pixels.processing import apply_modality_lut

    data = pydicom.dcmread(path)
    if "PixelData" not in data:
        raise DataError("a DICOM file without an image")
    kind = str(data.get("PhotometricInterpretation", ""))
    if not kind.startswith("MONOCHROME"):
        raise DataError(f"a DICOM file with {kind or 'no'} colours: only grey images are X-rays")
    check_size(int(data.Columns), int(data.Rows), max_megapixels)
    values = apply_modality_lut(_first_frame(data), data)
    if kind == "MONOCHROME1":
        # The complement of an integer turns the order round and stays within the type.
        return -values if values.dtype.kind == "f" else ~values
    return values


def _first_frame(data: Dataset) -> NDArray[Any]:
    """The stored values, [height, width]."""
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit

    of_pillow = data.file_meta.TransferSyntaxUID in (JPEGBaseline8Bit, JPEG2000, JPEG2000Lossless)
    return pixel_array(data, index=0, decoding_plugin="pillow" if of_pillow else "")
