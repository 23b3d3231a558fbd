"""Boxes with what their numbers mean: order, unit, the image, and the square that a model saw it on.

Every data set and every model writes four numbers of its own. `ImageBoxes` carries what they mean, so that nothing else
has to know: `pixels` are (y0, x0, y1, x1) in the image file, as everywhere in `xrayexp.data.geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from xrayexp.data.geometry import Crop, Placement
from xrayexp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xrayexp.data.geometry import Boxes

Order = Literal["yxyx", "xyxy", "xywh"]


@dataclass(frozen=True, slots=True)
class Convention:
    """How four numbers describe a box.

    Attributes:
        order: corners (upper left, lower right), or the upper left corner with width and height.
        full: the number at the lower and right edge; None where numbers are pixels of the file.
        squared: the numbers are shares of the square that the image was padded to, not of the image.
    """

    order: Order
    full: float | None = None
    squared: bool = False


PIXELS = Convention("yxyx")
CORNERS = Convention("xyxy")
"""VinDr-CXR: x_min, y_min, x_max, y_max in pixels."""
SIZES = Convention("xywh")
"""NIH's BBox_List_2017.csv: x, y, w, h in pixels."""
SHARES = Convention("xyxy", 1.0)
"""PadChest-GR: x0, y0, x1, y1 as shares of the image's width and height."""
MEDGEMMA = Convention("yxyx", 1000.0, squared=True)
"""MedGemma 1.5's notebook: y0, x0, y1, x1 in thousandths of the square that the image was padded to."""
MEDGEMMA_SHARES = Convention("yxyx", 1.0, squared=True)
"""The same in shares, as its technical report writes them (arXiv 2604.05081)."""


@dataclass(frozen=True, slots=True)
class ImageBoxes:
    """Boxes of one image.

    Attributes:
        values: [boxes, 4], as `convention` says.
        convention: what the numbers are.
        seen: the part of the file that the numbers refer to, where borders were cut off; the whole image otherwise.
        shape: height and width of the image file, in pixels.
    """

    values: Boxes
    convention: Convention
    shape: tuple[int, int]
    seen: Crop

    @classmethod
    def of(
        cls,
        values: Sequence[Sequence[float]] | Boxes,
        convention: Convention,
        shape: tuple[int, int],
        seen: Crop | None = None,
    ) -> ImageBoxes:
        """Boxes of an image of `shape`, none or several.

        Raises:
            DataError: they are no rows of four finite numbers, the image has no pixels, or `seen` is no part of it.
        """
        seen = seen or Crop(0, 0, *shape)
        try:
            array = np.asarray(values, dtype=np.float64).reshape(len(values), 4)
        except (TypeError, ValueError) as error:
            raise DataError(f"boxes are rows of four numbers, not {values!r:.80}") from error
        if not np.isfinite(array).all():
            raise DataError(f"boxes are rows of four finite numbers, not {values!r:.80}")
        if not (0 <= seen.top < seen.bottom <= shape[0] and 0 <= seen.left < seen.right <= shape[1]):
            raise DataError(f"an image of {shape[0]} x {shape[1]} pixels has no part {seen}")
        return cls(array, convention, shape, seen)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def pixels(self) -> Boxes:
        """(y0, x0, y1, x1) in the file's pixels, [boxes, 4]; what lies outside of the image is kept."""
        corners, convention = _to_corners(self.values, self.convention.order), self.convention
        if convention.full is None:
            return corners
        if convention.squared:
            return Placement.on_square(self.seen, convention.full).to_file(corners)
        height, width = self.seen.shape
        start = np.array([self.seen.top, self.seen.left] * 2)
        whole: Boxes = corners / convention.full * np.array([height, width] * 2) + start
        return whole

    def to(self, convention: Convention, seen: Crop | None = None) -> ImageBoxes:
        """The same boxes in another convention.

        Args:
            convention: what the numbers shall be.
            seen: the part of the file that they shall refer to; None for this one's.
        """
        seen, corners = seen or self.seen, self.pixels
        if convention.full is not None and convention.squared:
            corners = Placement.on_square(seen, convention.full).to_square(corners)
        elif convention.full is not None:
            start, (height, width) = np.array([seen.top, seen.left] * 2), seen.shape
            corners = (corners - start) / np.array([height, width] * 2) * convention.full
        return ImageBoxes(_from_corners(corners, convention.order), convention, self.shape, seen)

    def clipped(self) -> tuple[ImageBoxes, NDArray[np.intp]]:
        """What of the boxes lies in the image, in pixels, and the numbers of the boxes that have such a part.

        Corners in the wrong order are put right first. A model that puts a box on the padding has it cut off here.
        """
        corners = self.pixels
        low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
        limits = np.array(self.shape, dtype=np.float64)
        cut = np.concatenate([np.clip(low, 0, limits), np.clip(high, 0, limits)], axis=1)
        kept = np.flatnonzero((cut[:, 2:] > cut[:, :2]).all(axis=1))
        return ImageBoxes(cut[kept], PIXELS, self.shape, self.seen), kept


def _to_corners(values: Boxes, order: Order) -> Boxes:
    if order == "yxyx":
        return values.copy()
    if order == "xywh":
        values = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:]], axis=1)
    return values[:, [1, 0, 3, 2]]


def _from_corners(corners: Boxes, order: Order) -> Boxes:
    if order == "yxyx":
        return corners
    corners = corners[:, [1, 0, 3, 2]]
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1) if order == "xywh" else corners


@dataclass(frozen=True, slots=True)
class FindingBox:
    """Where a finding lies.

    Attributes:
        finding: its name, lower case.
        box: (y0, x0, y1, x1) in the image file's pixels.
        score: how sure a model is of it; boxes of equal score are not ranked.
    """

    finding: str
    box: tuple[float, float, float, float]
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class TrueBoxes:
    """Where the readers of an image saw what.

    Attributes:
        boxes: none of a healthy image.
        unboxed: findings that they state and drew no box for: nobody knows where these lie.
    """

    boxes: tuple[FindingBox, ...]
    unboxed: frozenset[str] = frozenset()
