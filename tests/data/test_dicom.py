"""DICOM files, made here: compressed and not, bright and dark, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from xrayexp.data.images import read_image, to_uint8
from xrayexp.errors import DataError

RAMP = np.arange(0, 4096, 4, dtype=np.uint16).reshape(32, 32)


def dicom(path: Path, pixels: NDArray[np.uint16], **tags: object) -> Path:
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


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    dark = read_image(dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(dark, to_uint8(RAMP.max() - RAMP))


def test_rescale_is_applied_and_the_window_is_not(tmp_path: Path) -> None:
    path = dicom(
        tmp_path / "a.dcm", RAMP, RescaleSlope="-1", RescaleIntercept="5000", WindowCenter="10", WindowWidth="1"
    )
    np.testing.assert_allclose(read_image(path).astype(int), to_uint8(5000 - RAMP.astype(int)), atol=1)


def test_compressed_files(tmp_path: Path) -> None:
    """JPEG and JPEG 2000 are tested on real files: nothing here writes them."""
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
    from PIL import Image

    path = dicom(tmp_path / "a", RAMP)
    if kind == "png":
        Image.fromarray(RAMP).save(path, "PNG")
    assert read_image(path, max_megapixels=0.0011).shape == (32, 32)
    with pytest.raises(DataError, match=r"32 x 32 pixels, more than data\.max_megapixels=0\.001"):
        read_image(path, max_megapixels=0.001)
