"""Grey values from every kind of file that chest X-rays come in."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from xrayexp.data.images import MID_GREY, image_shape, pad_to_square, read_image, to_uint8
from xrayexp.errors import DataError

RAMP = np.linspace(0, 255, 24 * 32).reshape(24, 32).round().astype(np.uint8)  # [height, width]

deep_images = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def is_ramp(image: NDArray[np.uint8], tolerance: int = 4) -> bool:
    """Whether an image is RAMP again; percentiles clip a few of its ends."""
    return image.shape == RAMP.shape and int(np.abs(image.astype(int) - RAMP).max()) <= tolerance


def test_8_bit_passes_unchanged() -> None:
    dark = RAMP // 4
    assert np.array_equal(to_uint8(dark), dark)


@pytest.mark.parametrize("bits", [10, 12, 15, 16])
def test_depth_does_not_matter(bits: int) -> None:
    deep = (RAMP.astype(np.uint16) * ((2**bits - 1) // 255)).astype(np.uint16)
    assert is_ramp(to_uint8(deep))


@pytest.mark.parametrize("dtype", ["int16", "int32", ">u2", "float32", "float64"])
def test_type_offset_and_scale_do_not_matter(dtype: str) -> None:
    assert is_ramp(to_uint8((RAMP.astype(dtype) * 3 - (0 if dtype == ">u2" else 100)).astype(dtype)))


def test_a_few_extreme_pixels_do_not_matter() -> None:
    deep = RAMP.astype(np.uint16) * 16
    deep[0, :2] = 65535
    image = to_uint8(deep)
    assert (image[0, :2] == 255).all()
    image[0, :2] = RAMP[0, :2]
    assert is_ramp(image)


def test_a_nearly_constant_image_uses_its_full_range() -> None:
    deep = np.full((40, 40), 700, dtype=np.uint16)
    deep[3, 4] = 900
    image = to_uint8(deep)
    assert image[3, 4] == 255
    assert image.sum() == 255


def test_large_images_are_scaled_like_small_ones() -> None:
    large = np.kron(RAMP, np.ones((50, 50), dtype=np.uint16)) * np.uint16(16)
    assert is_ramp(to_uint8(large)[::50, ::50])


@pytest.mark.parametrize("value", [0, 1, 4095, 65535])
def test_a_constant_image_is_mid_grey(value: int) -> None:
    image = to_uint8(np.full((4, 5), value, dtype=np.uint16))
    assert image.shape == (4, 5)
    assert (image == MID_GREY).all()


@given(deep_images)
def test_scaling_keeps_the_order_of_grey_values(deep: NDArray[np.uint16]) -> None:
    image = to_uint8(deep)
    assert image.dtype == np.uint8
    order = np.argsort(deep, axis=None)
    assert (np.diff(image.ravel()[order].astype(int)) >= 0).all()
    if deep.min() < deep.max():
        assert (image.min(), image.max()) == (0, 255)


@pytest.mark.parametrize("array", [np.zeros((3, 4, 3)), np.zeros(5), np.zeros((0, 4)), np.full((2, 2), np.nan)])
def test_what_is_no_image_is_refused(array: NDArray[Any]) -> None:
    with pytest.raises(DataError):
        to_uint8(array)


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_16_bit_png(tmp_path: Path, bits: int) -> None:
    deep = (RAMP.astype(np.uint16) * ((2**bits - 1) // 255)).astype(np.uint16)
    path = save(Image.fromarray(deep), tmp_path / "deep.png")
    assert is_ramp(read_image(path))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_deep_tiff(tmp_path: Path, dtype: str) -> None:
    path = save(Image.fromarray(RAMP.astype(dtype) * 7), tmp_path / "deep.tif")
    assert is_ramp(read_image(path))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_8_bit_png_is_read_as_it_is(tmp_path: Path, mode: str) -> None:
    path = save(Image.fromarray(RAMP).convert(mode), tmp_path / "grey.png")
    assert np.array_equal(read_image(str(path)), RAMP)


def test_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(255 - RAMP, mode="P")
    image.putpalette([value for grey in range(255, -1, -1) for value in (grey, grey, grey)])
    path = save(image, tmp_path / "palette.png", transparency=bytes([0] * 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(path), RAMP)


def test_transparency_is_ignored(tmp_path: Path) -> None:
    image = Image.fromarray(RAMP).convert("RGBA")
    image.putalpha(0)
    assert np.array_equal(read_image(save(image, tmp_path / "clear.png")), RAMP)


def test_black_and_white(tmp_path: Path) -> None:
    image = read_image(save(Image.fromarray(RAMP > 100), tmp_path / "bits.png"))
    assert np.array_equal(image, np.where(RAMP > 100, 255, 0))


def test_a_png_by_the_name_of_a_jpeg(tmp_path: Path) -> None:
    path = save(Image.fromarray(RAMP).convert("RGBA"), tmp_path / "image.jpg", format="PNG")
    assert np.array_equal(read_image(path), RAMP)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(tmp_path: Path, mode: str) -> None:
    path = save(Image.fromarray(RAMP).convert(mode), tmp_path / "image.jpg", quality=95)
    assert is_ramp(read_image(path), 12)


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png"])
def test_exif_rotation_is_applied(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    turned = Image.fromarray(np.rot90(RAMP).copy())
    assert is_ramp(read_image(save(turned, tmp_path / name, exif=exif, quality=95)), 12)


def test_exif_rotation_is_applied_to_deep_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = Image.fromarray(RAMP[::-1, ::-1].astype(np.uint16) * 16)
    assert is_ramp(read_image(save(turned, tmp_path / "turned.png", exif=exif)))


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_shape_is_known_before_the_image_is_read(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.new("L", (40, 20)), tmp_path / "image.jpg", exif=exif)
    assert image_shape(path) == read_image(path).shape == ((40, 20) if orientation == 6 else (20, 40))
    for bad, text in (("none.png", None), ("bad.png", "no image")):
        if text is not None:
            (tmp_path / bad).write_text(text)
        with pytest.raises(DataError, match=bad):
            image_shape(tmp_path / bad)


def test_the_result_may_be_written_to(tmp_path: Path) -> None:
    image = read_image(save(Image.fromarray(RAMP), tmp_path / "grey.png"))
    image[0, 0] = 7
    assert image[0, 0] == 7


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.bmp", "image.gif"])
def test_a_file_cut_off_is_refused_by_name_or_still_whole(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, RAMP.shape, dtype=np.uint8)
    whole = save(Image.fromarray(noise), tmp_path / f"whole_{name}")
    expected, content = read_image(whole), whole.read_bytes()
    path = tmp_path / name
    refusals = []
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            assert np.array_equal(read_image(path), expected)
        except DataError as error:
            refusals.append(str(error))
    assert all(name in refusal for refusal in refusals)
    assert len(refusals) > 0.8 * len(content) / 7


def test_missing_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png: no such file"):
        read_image(tmp_path / "absent.png")
    (tmp_path / "notes.png").write_text("not an image")
    with pytest.raises(DataError, match=r"notes\.png"):
        read_image(tmp_path / "notes.png")
    with pytest.raises(DataError, match=tmp_path.name):
        read_image(tmp_path)


@given(st.integers(1, 9), st.integers(1, 9))
def test_padding_is_centred(height: int, width: int) -> None:
    image = np.arange(1, height * width + 1, dtype=np.uint8).reshape(height, width)
    square = pad_to_square(image, value=200)
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    assert square.shape == (side, side)
    assert square.dtype == np.uint8
    assert np.array_equal(square[top : top + height, left : left + width], image)
    assert (square == 200).sum() == side * side - height * width


def test_padding_is_black_by_default() -> None:
    expected = [[0, 0, 0], [5, 6, 7], [0, 0, 0]]
    assert pad_to_square(np.array([[5, 6, 7]], dtype=np.uint8)).tolist() == expected
