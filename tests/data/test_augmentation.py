"""Random changes of images: repeatable, small, without a mirror, and with their boxes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from xrayexp.config import parse_section
from xrayexp.data.augmentation import Augmentation, AugmentationSection
from xrayexp.errors import ConfigError

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def chest(compose: Compose) -> Augmentation:
    transforms = compose("augmentation=cxr").augmentation.transforms
    return Augmentation([instantiate(transform) for transform in transforms], seed=0)


def patch(top: int, left: int) -> np.ndarray:
    image = np.full((128, 128), 40, dtype=np.uint8)
    image[top : top + 24, left : left + 16] = 220
    return image


def test_it_depends_on_seed_and_place_alone(chest: Augmentation, compose: Compose) -> None:
    image = patch(30, 80)
    first = chest.image(image, 5)
    chest.image(image, 6)
    np.testing.assert_array_equal(chest.image(image, 5), first)
    assert (chest.image(image, 6) != first).any()
    transforms = compose("augmentation=cxr").augmentation.transforms
    other = Augmentation([instantiate(transform) for transform in transforms], seed=1)
    assert (other.image(image, 5) != first).any()
    assert first.shape == image.shape
    assert first.dtype == np.uint8


def test_boxes_go_with_what_they_hold(chest: Augmentation) -> None:
    for place in range(40):
        image, boxes, numbers = chest.with_boxes(patch(30, 80), np.array([[30.0, 80.0, 54.0, 96.0]]), place)
        assert numbers.tolist() == [0]
        found = np.argwhere(image > 140)
        (y0, x0, y1, x1) = boxes[0]
        assert y0 - 2 <= found.min(axis=0)[0]
        assert x0 - 2 <= found.min(axis=0)[1]
        assert found.max(axis=0)[0] <= y1 + 2
        assert found.max(axis=0)[1] <= x1 + 2
        assert (y1 - y0) * (x1 - x0) < 2 * 24 * 16


def test_left_stays_left(chest: Augmentation) -> None:
    for place in range(40):
        bright = np.argwhere(chest.image(patch(50, 100), place) > 140)
        assert bright[:, 1].mean() > 70


def test_a_box_that_leaves_the_image_is_gone() -> None:
    import albumentations as A

    away = Augmentation([A.Affine(translate_px={"x": (100, 100), "y": (0, 0)}, p=1.0)], seed=0)
    boxes = np.array([[10.0, 90.0, 30.0, 110.0], [10.0, 5.0, 30.0, 20.0]])
    _, kept, numbers = away.with_boxes(patch(0, 0), boxes, 0)
    assert numbers.tolist() == [1]
    np.testing.assert_allclose(kept, [[10, 105, 30, 120]], atol=0.5)


@pytest.mark.parametrize("name", ["HorizontalFlip", "Transpose", "D4"])
def test_a_mirror_is_refused(compose: Compose, name: str) -> None:
    problems: list[str] = []
    cfg = compose()
    OmegaConf.update(cfg, "augmentation.transforms", [{"_target_": f"albumentations.{name}"}])
    parse_section(cfg, "augmentation", AugmentationSection, problems)
    assert len(problems) == 1
    assert f"{name} mirrors" in problems[0]


def test_a_mirror_among_choices_is_refused() -> None:
    choice = {"_target_": "albumentations.OneOf", "transforms": [{"_target_": "albumentations.VerticalFlip"}]}
    (problem,) = AugmentationSection("x", [choice]).problems()
    assert "VerticalFlip mirrors" in problem


def test_other_things_are_refused() -> None:
    with pytest.raises(ConfigError, match="dict is no transform of Albumentations"):
        Augmentation([{}], seed=0)
    assert "needs a _target_" in AugmentationSection("x", [{"p": 1}]).problems()[0]
