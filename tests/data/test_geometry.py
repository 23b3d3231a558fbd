"""Boxes on the way to the model's square and back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xrayexp.data.geometry import Crop, Placement
from xrayexp.data.images import fit_square
from xrayexp.data.preprocessing import PreprocessingSection, border_crop, preprocess

sides = st.integers(20, 300)


@given(sides, sides, st.integers(8, 400), st.data())
def test_boxes_come_back(height: int, width: int, size: int, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    placement = Placement.on_square(Crop(top, left, bottom, right), size)
    boxes = np.array([[top, left, bottom, right], [0, 0, height, width]], dtype=float)
    np.testing.assert_allclose(placement.to_file(placement.to_square(boxes)), boxes, atol=1e-9)
    inside = placement.to_square(boxes[:1])
    assert (inside >= -1e-9).all()
    assert (inside <= size + 1e-9).all()


@given(st.integers(60, 200), st.integers(60, 200), st.integers(0, 9))
def test_a_box_holds_what_it_held(height: int, width: int, border: int) -> None:
    """A bright patch, through border crop, padding and resizing."""
    image = np.full((height, width), 60, dtype=np.uint8)
    image[:border], image[:, :border] = 0, 0
    box = np.array([[25.0, 30.0, 45.0, 55.0]])
    image[25:45, 30:55] = 255
    section = PreprocessingSection(crop_borders=True, clahe=None)
    cropped, crop = preprocess(image, section)
    assert (crop.top, crop.left) == (border, border)
    square = fit_square(cropped, 128, Image.Resampling.BILINEAR)
    found = np.argwhere(square > 157)
    expected = Placement.on_square(crop, 128).to_square(box)[0]
    np.testing.assert_allclose([*found.min(axis=0), *(found.max(axis=0) + 1)], expected, atol=1.01)


def test_a_dark_image_is_no_border() -> None:
    assert border_crop(np.zeros((40, 60), dtype=np.uint8)) == Crop(0, 0, 40, 60)
    mostly = np.zeros((40, 60), dtype=np.uint8)
    mostly[39, 59] = 255
    assert border_crop(mostly).shape == (30, 45)


def test_clahe_raises_local_contrast_and_keeps_the_shape() -> None:
    image = np.tile(np.linspace(100, 110, 64).astype(np.uint8), (48, 1))
    equalised, crop = preprocess(image, PreprocessingSection(crop_borders=False, clahe=4.0))
    assert equalised.shape == image.shape == crop.shape
    assert equalised.std() > 1.3 * image.std()
