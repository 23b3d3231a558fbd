"""Real chest X-rays of every kind that data sets hold, where a folder of them is given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image

from xrayexp.cli import main
from xrayexp.data.augmentation import Augmentation
from xrayexp.data.images import MID_GREY, fit_square, pad_to_square, read_image
from xrayexp.data.preprocessing import PreprocessingSection, preprocess
from xrayexp.errors import DataError

pytestmark = pytest.mark.real_data

ENDINGS = {".png", ".jpg", ".jpeg", ".dcm"}


@pytest.fixture
def images() -> list[Path]:
    folder = os.environ.get("XRAYEXP_REAL_IMAGES")
    if not folder or not Path(folder).is_dir():
        pytest.skip("XRAYEXP_REAL_IMAGES names no folder of real chest X-rays")
    found = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in ENDINGS)
    if not found:
        pytest.skip(f"{folder} holds no image")
    return found


def test_whole_images_are_well_exposed(images: list[Path]) -> None:
    for path in images:
        if "truncated" in path.stem or "constant" in path.stem:
            continue
        image = read_image(path)
        assert image.ndim == 2, path
        assert 40 < image.mean() < 215, f"{path} is nearly black or white"
        assert image.std() > 10, f"{path} has no contrast"
        assert pad_to_square(image).shape == (max(image.shape),) * 2, path


def named(images: list[Path], part: str) -> list[Path]:
    found = [path for path in images if part in path.stem]
    if not found:
        pytest.skip(f"the folder holds no image named '{part}'")
    return found


def test_constant_images_are_grey(images: list[Path]) -> None:
    for path in named(images, "constant"):
        assert np.unique(read_image(path)).tolist() == [MID_GREY], path


def test_one_chest_is_the_same_as_dicom_and_as_png(images: list[Path]) -> None:
    """MONOCHROME1 in JPEG 2000 with 15 bits, and MONOCHROME2 in a 16-bit PNG with 12."""
    (dicom,), (png,) = named(images, "chest_mono1"), named(images, "chest_12in16")
    difference = read_image(dicom).astype(int) - read_image(png)
    assert np.abs(difference).mean() < 2


def test_every_image_can_be_cropped_equalised_and_augmented(
    images: list[Path], compose: Callable[..., DictConfig]
) -> None:
    transforms = compose("augmentation=cxr").augmentation.transforms
    augmentation = Augmentation([instantiate(transform) for transform in transforms], seed=0)
    for place, path in enumerate(images):
        if "truncated" in path.stem:
            continue
        image, crop = preprocess(read_image(path), PreprocessingSection(crop_borders=True, clahe=2.0))
        assert image.shape == crop.shape
        square = fit_square(image, 224, Image.Resampling.BILINEAR)
        assert augmentation.image(square, place).shape == (224, 224), path


def test_data_check_flags_what_is_no_chest(images: list[Path], tmp_path: Path) -> None:
    """The limb, the blank image and the one whose header lies about its grey values; and no other."""
    root = images[0].parent
    assert main(["data", "check", f"data.root={root}", f"data.cache_dir={tmp_path}", "--out", str(tmp_path)]) == 1
    problems = pd.read_csv(tmp_path / "problems.csv").set_index("image_id")["kind"].to_dict()
    expected = {
        "derived_truncated.png": "unreadable",
        "blank_constant.dcm": "constant",
        "ood_tibia_mono1_10bit_j2k.dcm": "suspect",
        "siim_fake_mono1.dcm": "suspect",  # a chest whose header says MONOCHROME1 and whose pixels are not
    }
    assert problems == {name: kind for name, kind in expected.items() if (root / name).exists()}
    assert problems


def test_truncated_images_are_refused_by_name(images: list[Path]) -> None:
    for path in named(images, "truncated"):
        with pytest.raises(DataError, match=path.name):
            read_image(path)
