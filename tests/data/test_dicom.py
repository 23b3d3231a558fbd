"""DICOM files, made here: compressed and not, bright and dark, and what is none."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    generate_uid,
)

from xrayexp.data.images import image_shape, read_image, to_uint8
from xrayexp.errors import DataError

RAMP = np.arange(0, 4096, 4, dtype=np.uint16).reshape(32, 32)


def dicom(path: Path, pixels: NDArray[Any], **tags: object) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def test_grey_values_are_scaled(tmp_path: Path) -> None:
    """Whatever the file is called."""
    np.testing.assert_array_equal(read_image(dicom(tmp_path / "a.png", RAMP)), to_uint8(RAMP))


def test_the_shape_is_in_the_header(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP[:20])
    assert image_shape(path) == (20, 32)
    broken = pydicom.dcmread(path)
    del broken.Rows
    broken.save_as(tmp_path / "b.dcm")
    with pytest.raises(DataError, match=r"b\.dcm"):
        image_shape(tmp_path / "b.dcm")


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    dark = read_image(dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(dark, to_uint8(RAMP.max() - RAMP))


def test_rescale_is_applied_and_the_window_is_not(tmp_path: Path) -> None:
    path = dicom(
        tmp_path / "a.dcm", RAMP, RescaleSlope="-1", RescaleIntercept="5000", WindowCenter="10", WindowWidth="1"
    )
    np.testing.assert_allclose(read_image(path).astype(int), to_uint8(5000 - RAMP.astype(int)), atol=1)


@pytest.mark.parametrize("type_", ["i2", "u1"])
def test_monochrome1_is_inverted_over_the_whole_range_of_its_type(tmp_path: Path, type_: str) -> None:
    about = np.iinfo(type_)
    pixels = np.linspace(about.min, about.max, 1024).astype(type_).reshape(32, 32)
    bits = 8 * pixels.itemsize
    tags = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(type_ == "i2")}
    path = dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", **tags)
    np.testing.assert_allclose(read_image(path).astype(int), to_uint8(pixels)[::-1, ::-1], atol=1)


def test_a_rescaled_monochrome1_is_inverted(tmp_path: Path) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": "0.5", "RescaleIntercept": "7"}
    image = read_image(dicom(tmp_path / "a.dcm", RAMP, **tags))
    np.testing.assert_allclose(image.astype(int), to_uint8(RAMP)[::-1, ::-1], atol=1)


def jpeg(path: Path, kind: str) -> Path:
    """A compressed DICOM file of RAMP: in 8 bits as JPEG, in 16 as JPEG 2000."""
    stream = io.BytesIO()
    pixels = (RAMP // 16).astype(np.uint8) if kind == "JPEG" else RAMP
    options = {"quality": 95} if kind == "JPEG" else {"no_jp2": True}
    Image.fromarray(pixels).save(stream, kind, **options)
    bits = 8 * pixels.itemsize
    data = pydicom.dcmread(dicom(path, RAMP, BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1))
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    data.PixelData = encapsulate([stream.getvalue()])
    data.save_as(path)
    return path


@pytest.mark.parametrize("kind, tolerance", [("JPEG", 6), ("JPEG2000", 0)])
def test_jpeg_and_jpeg_2000(tmp_path: Path, kind: str, tolerance: int) -> None:
    expected = (RAMP // 16).astype(np.uint8) if kind == "JPEG" else to_uint8(RAMP)
    image = read_image(jpeg(tmp_path / "a.dcm", kind))
    np.testing.assert_allclose(image.astype(int), expected, atol=tolerance)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_damaged_streams_never_end_the_process(tmp_path: Path, kind: str) -> None:
    """GDCM ends it where a JPEG stream's tables are broken."""
    path = jpeg(tmp_path / "a.dcm", kind)
    code = (
        "import random, sys; from pathlib import Path\n"
        "from xrayexp.data.images import read_image; from xrayexp.errors import DataError\n"
        "path, draw, refused = Path(sys.argv[1]), random.Random(0), 0\n"
        "whole = path.read_bytes(); start = whole.index(b'\\xff\\xd8' if sys.argv[2] == 'JPEG' else b'\\xff\\x4f')\n"
        "for _ in range(400):\n"
        "    broken = bytearray(whole)\n"
        "    for _ in range(3): broken[draw.randrange(start, len(whole))] = draw.randrange(256)\n"
        "    path.write_bytes(broken)\n"
        "    try: read_image(path)\n"
        "    except DataError: refused += 1\n"
        "print(refused)"
    )
    done = subprocess.run([sys.executable, "-c", code, path, kind], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 50


def test_run_length_encoding(tmp_path: Path) -> None:
    data = pydicom.dcmread(dicom(tmp_path / "a.dcm", RAMP))
    data.compress(RLELossless)
    data.save_as(tmp_path / "b.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm"), to_uint8(RAMP))


def test_the_first_of_several_frames_is_read(tmp_path: Path) -> None:
    frames = np.stack([RAMP, RAMP.T])
    np.testing.assert_array_equal(read_image(dicom(tmp_path / "a", frames, NumberOfFrames=2)), to_uint8(RAMP))


@pytest.mark.parametrize(
    "tags, message",
    [
        ({"PhotometricInterpretation": "RGB"}, "RGB colours"),
        ({"PixelData": RAMP.tobytes()[:-100]}, "cannot be"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, tags: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.dcm.*{message}"):
        read_image(dicom(tmp_path / "a.dcm", RAMP, **tags))


BROKEN: dict[str, Callable[[Dataset], object]] = {
    "no rows": lambda data: delattr(data, "Rows"),
    "empty rows": lambda data: setattr(data, "Rows", None),
    "no bits": lambda data: delattr(data, "BitsAllocated"),
    "no transfer syntax": lambda data: delattr(data.file_meta, "TransferSyntaxUID"),
    "empty intercept": lambda data: setattr(data, "RescaleIntercept", None),
    "empty table": lambda data: setattr(data, "ModalityLUTSequence", [Dataset()]),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_broken_headers_are_named(tmp_path: Path, damage: str) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP, RescaleSlope="1", RescaleIntercept="0")
    data = pydicom.dcmread(path)
    BROKEN[damage](data)
    data.save_as(path)
    with pytest.raises(DataError, match=r"a\.dcm"):
        read_image(path)


changes = st.lists(st.tuples(st.integers(132, 557), st.integers(0, 255)), min_size=1, max_size=4)


@given(changes, st.just(0) | st.integers(1, 2000))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_read_or_refused_by_name(tmp_path: Path, changes: list[tuple[int, int]], cut: int) -> None:
    """Bytes of the header changed, the end cut off."""
    content = bytearray(dicom(tmp_path / "whole.dcm", RAMP).read_bytes())
    for place, value in changes:
        content[place] = value
    path = tmp_path / "a.dcm"
    path.write_bytes(content[: len(content) - cut])
    refused = ""
    try:
        assert read_image(path).dtype == np.uint8
    except DataError as error:
        refused = str(error)
    assert not refused or str(path) in refused


def test_a_file_without_an_image_is_named(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(DataError, match="without an image"):
        read_image(path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.dcm"):
        read_image(path)


@pytest.mark.parametrize("kind", ["dicom", "png"])
def test_large_images_are_refused_before_they_are_decoded(tmp_path: Path, kind: str) -> None:
    path = dicom(tmp_path / "a", RAMP)
    if kind == "png":
        Image.fromarray(RAMP).save(path, "PNG")
    assert read_image(path, max_megapixels=0.0011).shape == (32, 32)
    with pytest.raises(DataError, match=r"32 x 32 pixels, more than data\.max_megapixels=0\.001"):
        read_image(path, max_megapixels=0.001)
