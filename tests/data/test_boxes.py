"""Boxes in every convention: back and forth, off the padding, cut at the edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.boxes import CORNERS, MEDGEMMA, MEDGEMMA_SHARES, PIXELS, SHARES, SIZES, ImageBoxes
from xrayexp.data.geometry import Crop
from xrayexp.data.images import pad_to_square
from xrayexp.errors import DataError

CONVENTIONS = (PIXELS, CORNERS, SIZES, SHARES, MEDGEMMA, MEDGEMMA_SHARES)
numbers = st.floats(-2000, 2000, allow_nan=False)


@st.composite
def image_boxes(draw: st.DrawFn) -> ImageBoxes:
    height, width = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    seen = Crop(top, left, draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width)))
    values = draw(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=4))
    return ImageBoxes.of(values, draw(st.sampled_from(CONVENTIONS)), (height, width), seen)


@given(image_boxes(), st.sampled_from(CONVENTIONS))
def test_boxes_come_back_from_every_convention(boxes: ImageBoxes, other: object) -> None:
    there = boxes.to(other)  # type: ignore[arg-type]
    np.testing.assert_allclose(there.pixels, boxes.pixels, rtol=1e-9, atol=1e-6)
    back = there.to(boxes.convention)
    np.testing.assert_allclose(back.values, boxes.values, rtol=1e-9, atol=1e-3)  # shares of 4,000 pixels, squared
    assert (back.convention, back.shape, back.seen) == (boxes.convention, boxes.shape, boxes.seen)


@given(image_boxes())
def test_what_is_cut_lies_in_the_image_and_in_the_box(boxes: ImageBoxes) -> None:
    cut, kept = boxes.clipped()
    assert cut.convention is PIXELS
    low, high = cut.values[:, :2], cut.values[:, 2:]
    assert (low >= 0).all()
    assert (high <= boxes.shape).all()
    assert (high > low).all()
    whole = boxes.pixels[kept]
    corners = np.sort(whole.reshape(-1, 2, 2), axis=1)  # [boxes, low and high, y and x]
    assert (low >= corners[:, 0]).all()
    assert (high <= corners[:, 1]).all()
    again, all_of_it = cut.clipped()
    np.testing.assert_array_equal(again.values, cut.values)
    assert len(all_of_it) == len(cut)


@given(st.integers(8, 90), st.integers(8, 90), st.data())
def test_padding_is_removed_as_it_was_added(height: int, width: int, data: st.DataObject) -> None:
    """A patch on an image, found on the square that the model sees, in thousandths."""
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, height)), data.draw(st.integers(x0 + 1, width))
    image = np.zeros((height, width), dtype=np.uint8)
    image[y0:y1, x0:x1] = 255
    found = np.argwhere(pad_to_square(image))
    side = max(height, width)
    answer = np.array([*found.min(axis=0), *(found.max(axis=0) + 1)]) * 1000 / side
    boxes = ImageBoxes.of(answer[None], MEDGEMMA, (height, width))
    np.testing.assert_allclose(boxes.pixels[0], (y0, x0, y1, x1), atol=1e-9)


def test_conventions_by_hand() -> None:
    """An image of 200 x 100: on the square, 50 black columns on either side."""
    corners = (40.0, 10.0, 80.0, 60.0)
    for values, convention in (
        ((10, 40, 60, 80), CORNERS),
        ((10, 40, 50, 40), SIZES),
        ((0.1, 0.2, 0.6, 0.4), SHARES),
        ((200, 300, 400, 550), MEDGEMMA),
        ((0.2, 0.3, 0.4, 0.55), MEDGEMMA_SHARES),
    ):
        boxes = ImageBoxes.of([values], convention, (200, 100))
        np.testing.assert_allclose(boxes.pixels, [corners], atol=1e-12)
    on_the_padding, kept = ImageBoxes.of([(0, 0, 500, 200), (0, 200, 10, 300)], MEDGEMMA, (200, 100)).clipped()
    assert len(on_the_padding) == 1
    assert kept.tolist() == [1]


@pytest.mark.parametrize("values", [[(1, 2, 3)], [(1, 2, 3, "x")], [(1, 2, 3, float("nan"))], [((1, 2), 2, 3, 4)]])
def test_what_is_no_box_is_refused(values: list[tuple[float, ...]]) -> None:
    with pytest.raises(DataError, match="rows of four"):
        ImageBoxes.of(values, PIXELS, (10, 10))


def test_a_part_that_is_not_in_the_image_is_refused() -> None:
    with pytest.raises(DataError, match="no part"):
        ImageBoxes.of([], PIXELS, (10, 10), Crop(0, 0, 11, 10))
