"""Where a point of an image file lies in what the model sees, and back.

Boxes are float arrays [boxes, 4] of (y0, x0, y1, x1) in pixels, with the upper left corner of the image at (0, 0) and
its lower right corner at (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Boxes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of an image: rows `top` to `bottom`, columns `left` to `right`, the ends exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True, slots=True)
class Placement:
    """An image file's part on the model's square: cropped, padded and resized.

    Attributes:
        scale: pixels of the square per pixel of the file.
        top: row of the square, before scaling, where the file's row 0 lies; negative where rows were cropped.
        left: likewise for columns.
    """

    scale: float
    top: float
    left: float

    @classmethod
    def on_square(cls, crop: Crop, size: float) -> Placement:
        """The placement of `pad_to_square` and a resize to [size, size], of a part of an image."""
        height, width = crop.shape
        side = max(height, width)
        return cls(size / side, (side - height) // 2 - crop.top, (side - width) // 2 - crop.left)

    def to_square(self, boxes: Boxes) -> Boxes:
        """From the file's pixels to the square's."""
        return (boxes + self._offset) * self.scale

    def to_file(self, boxes: Boxes) -> Boxes:
        """From the square's pixels to the file's."""
        return boxes / self.scale - self._offset

    @property
    def _offset(self) -> Boxes:
        return np.array([self.top, self.left, self.top, self.left])
