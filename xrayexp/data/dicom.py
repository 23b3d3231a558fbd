"""Grey values from DICOM files, through pydicom and, for compressed ones, GDCM and Pillow.

Only what every file has to say about its grey values is applied: the modality LUT or rescale, and MONOCHROME1, where
small values are bright. The viewer's window is left out: in some files it is the text 'None', in others made for a
screen of 1998, and `to_uint8` scales by the values themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xrayexp.data.size_limit import check_size
from xrayexp.errors import DataError

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
        DataError: no grey image, too large, or compressed in a way that no installed decoder reads.
        OSError, ValueError and others of pydicom's: a broken file.
    """
    import pydicom
    from pydicom.pixels.processing import apply_modality_lut

    data = pydicom.dcmread(path)
    if "PixelData" not in data:
        raise DataError("a DICOM file without an image")
    kind = str(data.get("PhotometricInterpretation", ""))
    if not kind.startswith("MONOCHROME"):
        raise DataError(f"a DICOM file with {kind or 'no'} colours: only grey images are X-rays")
    check_size(int(data.Columns), int(data.Rows), max_megapixels)
    try:
        values = data.pixel_array
    except (RuntimeError, AttributeError, NotImplementedError) as error:  # what pydicom raises for its decoders
        raise DataError(f"its {data.file_meta.TransferSyntaxUID.name} pixels cannot be decoded: {error}") from error
    values = apply_modality_lut(values[0] if values.ndim == 3 else values, data)
    return values.max() - values if kind == "MONOCHROME1" else values
