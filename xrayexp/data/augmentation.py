"""Random changes of training images by Albumentations, repeatable one by one.

The change of a sample depends on the run's seed and on the sample's place in the run alone, not on the worker that
makes it: a resumed run, and one with more workers, sees the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xrayexp.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xrayexp.data.geometry import Boxes

# They move the heart to the right, and leave what the report says on the left.
MIRRORING = ("HorizontalFlip", "VerticalFlip", "Flip", "D4", "SquareSymmetry", "Transpose", "RandomRotate90")
SEEDS = 2**32


@dataclass
class AugmentationSection:
    """`augmentation`: random changes of training images.

    Attributes:
        name: short name, for tables.
        transforms: the `_target_` and arguments of transforms of Albumentations, applied in this order.
    """

    name: str
    transforms: list[Any]

    def problems(self) -> list[str]:
        """What no X-ray can bear, one sentence each."""
        found = [
            f"augmentation.transforms: {name} mirrors or turns the chest, and a report's left and right would be "
            "wrong: remove it"
            for name in _names(self.transforms)
            if name in MIRRORING
        ]
        without = any(not (isinstance(one, dict) and one.get("_target_")) for one in self.transforms)
        return found + ["augmentation.transforms: every transform needs a _target_"] * without


def _names(node: Any) -> list[str]:
    """The classes of transforms and of those inside them, such as the choices of OneOf."""
    if isinstance(node, dict):
        own = [str(node["_target_"]).rpartition(".")[2]] if "_target_" in node else []
        return own + _names(list(node.values()))
    return [name for one in node for name in _names(one)] if isinstance(node, list) else []


class Augmentation:
    """Applies a list of Albumentations' transforms.

    Args:
        transforms: instances of `albumentations.BasicTransform`.
        seed: of the run.

    Raises:
        ConfigError: a transform is none of Albumentations'.
    """

    def __init__(self, transforms: Sequence[Any], seed: int) -> None:
        import albumentations as A

        odd = [type(one).__name__ for one in transforms if not isinstance(one, A.BasicTransform | A.BaseCompose)]
        if odd:
            raise ConfigError([f"augmentation.transforms: {name} is no transform of Albumentations" for name in odd])
        # Boxes may be cut at the image's edge; one that is outside of it is gone.
        boxes = A.BboxParams(format="pascal_voc", label_fields=["numbers"], clip=True, min_area=1.0)
        self._compose = A.Compose(list(transforms), bbox_params=boxes)
        self._seed = seed

    def image(self, image: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
        """The changed image.

        Args:
            image: [height, width].
            place: draws of the run before this one.
        """
        return self.with_boxes(image, np.zeros((0, 4)), place)[0]

    def with_boxes(
        self, image: NDArray[np.uint8], boxes: Boxes, place: int
    ) -> tuple[NDArray[np.uint8], Boxes, NDArray[np.int64]]:
        """The changed image and the boxes around what they held before.

        Args:
            image: [height, width].
            boxes: [boxes, 4], see `xrayexp.data.geometry`.
            place: draws of the run before this one.

        Returns:
            The image, the boxes that are still in it, and their numbers among the boxes given.
        """
        self._compose.set_random_seed(int(np.random.default_rng([self._seed, place]).integers(SEEDS)))
        changed = self._compose(image=image, bboxes=boxes[:, [1, 0, 3, 2]], numbers=np.arange(len(boxes)))
        kept = np.asarray(changed["bboxes"], dtype=np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]
        return changed["image"], kept, np.asarray(changed["numbers"], dtype=np.int64)
