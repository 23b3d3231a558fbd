"""Whether an image looks like a chest X-ray, by statistics so simple that a person sees at once why one was flagged.

An image is shrunk, its grey values are replaced by their ranks, so that exposure does not count, and it is compared
with drawn chests: two dark lungs beside a bright mediastinum, above a bright abdomen, with air over the shoulders, at
several sizes and places. What is flagged deserves a look. It is no quality control: a shoulder or a skull may pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

# Each bound lies outside of nearly all of 708 public frontal chests: docs/data.md has the counts.
MOST_OF_ONE_GREY = 0.35  # of the pixels: shutters, borders, masks; the background of a CT slice
MOST_COLOURED = 0.1  # of the pixels
LONGEST = 2.0  # sides
LEAST_UPRIGHT = 0.35  # correlation with a drawn chest, as the image stands ...
LEAST_TURNED = 0.55  # ... or turned by quarters: a chest lying on its side is a chest
MOST_INVERTED = 0.2  # how much better the negative of a drawn chest fits

CONSTANT = "constant: every pixel has the same value"

_SIDE = 32  # pixels of the shrunk image
_SIZES, _SHIFTS = (0.75, 0.9, 1.05), (-0.08, 0.0, 0.08)  # of the drawn chests, in sides of the image


@dataclass(frozen=True, slots=True)
class Appearance:
    """What is measured of an image.

    Attributes:
        one_grey: share of the pixels that have the most frequent of 256 grey values.
        upright: best rank correlation with a drawn chest, -1 to 1; 0 for a constant image.
        turned: the same, for the best of four quarter turns.
        inverted: the same as `turned`, of the negative.
    """

    one_grey: float
    upright: float
    turned: float
    inverted: float


def appearance(image: NDArray[np.uint8]) -> Appearance:
    """Measures an image.

    Args:
        image: [height, width].
    """
    from PIL import Image

    counts = np.bincount(image.ravel(), minlength=256)
    small = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX))
    turns = np.stack([_ranks(np.rot90(small, quarter)) for quarter in range(4)])  # [4, pixels]
    fits = turns @ _drawn_chests().T  # [4, drawings]
    return Appearance(float(counts.max() / image.size), float(fits[0].max()), float(fits.max()), float(-fits.min()))


def suspicions(index: pd.DataFrame) -> list[str]:
    """Why each image of an index is suspect; empty for those that look like a chest, and for unreadable ones.

    Args:
        index: of `xrayexp.data.image_index`.
    """
    return [_suspicion(record) for record in index.itertuples()]


def _suspicion(record: Any) -> str:
    if record.reason:
        return ""
    if record.low == record.high:
        return CONSTANT
    found = []
    if record.one_grey > MOST_OF_ONE_GREY:
        found.append(f"{record.one_grey:.0%} of its pixels have one grey value")
    if record.coloured > MOST_COLOURED:
        found.append(f"{record.coloured:.0%} of its pixels are coloured")
    if max(record.height, record.width) > LONGEST * min(record.height, record.width):
        found.append(f"{record.width} x {record.height} pixels are an odd shape")
    if record.upright < LEAST_UPRIGHT and record.turned < LEAST_TURNED:
        found.append(f"no dark lungs beside a bright middle (likeness {record.upright:.2f})")
    if record.inverted > record.turned + MOST_INVERTED:
        found.append("looks inverted: bright lungs beside a dark middle")
    return "; ".join(found)


def _ranks(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The ranks of an image's values, ties sharing theirs, centred and of length 1: products are Spearman's rho."""
    _, place, counts = np.unique(image.ravel(), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place.ravel()]
    centred: NDArray[np.float64] = ranks - ranks.mean()
    length = np.linalg.norm(centred)
    return centred / length if length else centred


@cache
def _drawn_chests() -> NDArray[np.float64]:
    """Ranks of the drawn chests, [drawings, pixels]."""
    placements = product(_SIZES, _SHIFTS, _SHIFTS, (False, True))
    return np.stack([_ranks(_drawn_chest(*placement)) for placement in placements])


def _drawn_chest(size: float, right: float, down: float, air: bool) -> NDArray[np.uint8]:
    """A chest: `air` leaves room beside the body."""
    from scipy.ndimage import gaussian_filter

    rows, columns = (np.mgrid[:_SIDE, :_SIDE] + 0.5) / _SIDE
    x, y = (columns - 0.5 - right) / size, (rows - 0.47 - down) / size
    chest = np.full((_SIDE, _SIDE), 0.75)
    for middle in (-0.21, 0.21):
        chest[((x - middle) / 0.15) ** 2 + (y / 0.30) ** 2 < 1] = 0.15
    chest[(abs(x) < 0.08) & (y < 0.40)] = 0.85
    chest[(abs(x) > 0.22) & (y < -0.30)] = 0.30
    chest[y > 0.30] = 1.0
    if air:
        chest[abs(x) > 0.46] = 0.10
    drawn: NDArray[np.float64] = gaussian_filter(chest, 1.2)
    return (drawn * 255).round().astype(np.uint8)
