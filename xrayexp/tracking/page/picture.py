"""An image, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from xrayexp.webpage import data_uri

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 240  # pixels of the longer side


@dataclass(frozen=True, slots=True)
class Picture:
    """One of the two.

    Attributes:
        image: grey values, [height, width].
        reason: one sentence.
    """

    image: NDArray[np.uint8] | None = None
    reason: str = ""


def figure(picture: Picture, image_id: str) -> str:
    """The thumbnail with the image's name."""
    shown = (
        f'<div class="absent">{escape(picture.reason)}</div>'
        if picture.image is None
        else f'<img alt="image {escape(image_id)}" loading="lazy" src="{data_uri(picture.image, SIDE)}">'
    )
    return f"<figure>{shown}<figcaption>{escape(image_id)}</figcaption></figure>"
