"""What counts as unlike a chest, and that phantoms do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from omegaconf import DictConfig

from xrayexp.data.appearance import CONSTANT, appearance, suspicions
from xrayexp.data.image_index import ImageRecord


def judged(image: NDArray[np.uint8], coloured: float = 0.0) -> str:
    seen = asdict(appearance(image))
    height, width = image.shape
    record = ImageRecord("a.png", 1, 1, 40.0, "", height, width, image.min(), image.max(), "", coloured, **seen)
    [reason] = suspicions(pd.DataFrame([asdict(record)]))
    return reason


@pytest.fixture(scope="module")
def chest(compose: Callable[..., DictConfig]) -> NDArray[np.uint8]:
    source = instantiate(compose("data.source.patients=1").data.source, _convert_="all")
    image: NDArray[np.uint8] = source.image(source.table()["ImageID"][0])
    return image


def test_no_phantom_is_suspect(compose: Callable[..., DictConfig]) -> None:
    source = instantiate(compose("data.source.patients=60").data.source, _convert_="all")
    reasons = [judged(source.image(image)) for image in source.table()["ImageID"]]
    assert reasons == [""] * len(reasons)


def test_exposure_and_a_quarter_turn_do_not_matter(chest: NDArray[np.uint8]) -> None:
    assert judged(chest) == ""
    assert judged((chest // 8 + 20).astype(np.uint8)) == ""
    for quarter in (1, 2, 3):
        assert judged(np.rot90(chest, quarter)) == ""


def test_a_negative_looks_inverted(chest: NDArray[np.uint8]) -> None:
    assert "looks inverted" in judged((255 - chest).astype(np.uint8))


def test_constant() -> None:
    assert judged(np.full((50, 40), 128, dtype=np.uint8)) == CONSTANT


def test_a_bone_between_shutters_is_no_chest() -> None:
    limb = np.full((400, 400), 255, dtype=np.uint8)
    limb[:, 110:290] = 5
    limb[:, 150:250] = 150
    limb[:, 185:215] = 220
    limb += np.random.default_rng(0).integers(0, 2, size=limb.shape).astype(np.uint8) * (limb < 255)
    assert "have one grey value" in judged(limb)


def test_noise_is_no_chest() -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(200, 200)).astype(np.uint8)
    assert "no dark lungs" in judged(noise)


def test_colours_and_odd_shapes(chest: NDArray[np.uint8]) -> None:
    assert "60% of its pixels are coloured" in judged(chest, coloured=0.6)
    assert "96 x 40 pixels are an odd shape" in judged(chest[:40])


def test_what_cannot_be_read_is_not_judged() -> None:
    assert suspicions(pd.DataFrame([asdict(ImageRecord("a.png", 1, 1, 40.0, "truncated"))])) == [""]


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40), elements=st.integers(0, 255)))
def test_any_image_can_be_measured(image: NDArray[np.uint8]) -> None:
    seen = appearance(image)
    assert 0 < seen.one_grey <= 1
    assert -1.0001 <= seen.upright <= seen.turned <= 1.0001
    assert -1.0001 <= seen.inverted <= 1.0001
