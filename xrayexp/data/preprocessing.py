"""From an image file's grey values to the square that a model sees, the same every time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from xrayexp.data.geometry import Crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DARK = 8  # of 255: film edges and collimator blades
_MOST_CROPPED = 0.25  # of a side: more than that is no border


@dataclass
class PreprocessingSection:
    """`data.preprocessing`: what is done to every image, in every split.

    Attributes:
        crop_borders: cut off dark rows and columns around the image.
        clahe: contrast-limited adaptive histogram equalisation with this clip limit; None for none.
    """

    crop_borders: bool
    clahe: float | None

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        if self.clahe is not None and self.clahe <= 0:
            return [f"data.preprocessing.clahe must be above 0 or null, not {self.clahe:g}"]
        return []

    def describe(self) -> str:
        """Changes whenever the result does."""
        return ",".join(f"{key}={value}" for key, value in asdict(self).items())


def preprocess(image: NDArray[np.uint8], section: PreprocessingSection) -> tuple[NDArray[np.uint8], Crop]:
    """Crops and equalises an image as the config says.

    Args:
        image: [height, width].
        section: what to do.

    Returns:
        The image, and the part of the original that it is. `Placement.on_square` takes it from there.
    """
    crop = border_crop(image) if section.crop_borders else Crop(0, 0, *image.shape)
    image = image[crop.top : crop.bottom, crop.left : crop.right]
    return (_equalise(image, section.clahe) if section.clahe is not None else image), crop


def border_crop(image: NDArray[np.uint8]) -> Crop:
    """The image without the rows and columns at its edges that are dark nearly throughout.

    A side loses at most a quarter on either end: a dark image is no border.
    """
    ends = []
    for axis in (1, 0):
        bright = np.flatnonzero(np.percentile(image, 99, axis=axis) > _DARK)
        length = image.shape[1 - axis]
        most = int(_MOST_CROPPED * length)
        first, last = (int(bright[0]), int(bright[-1]) + 1) if len(bright) else (0, length)
        ends.append((min(first, most), max(last, length - most)))
    (top, bottom), (left, right) = ends
    return Crop(top, left, bottom, right)


def _equalise(image: NDArray[np.uint8], limit: float) -> NDArray[np.uint8]:
    import cv2

    return cv2.createCLAHE(clipLimit=limit, tileGridSize=(8, 8)).apply(image).astype(np.uint8, copy=False)
