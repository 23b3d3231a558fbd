"""Real chest X-rays of every kind that data sets hold, where a folder of them is given."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from xrayexp.cli import main
from xrayexp.data.images import pad_to_square, read_image
from xrayexp.errors import DataError

pytestmark = pytest.mark.real_data

ENDINGS = {".png", ".jpg", ".jpeg"}  # DICOM files in the folder are left out: there is no reader for them


@pytest.fixture
def images() -> list[Path]:
    folder = os.environ.get("XRAYEXP_REAL_IMAGES")
    if not folder or not Path(folder).is_dir():
        pytest.skip("XRAYEXP_REAL_IMAGES names no folder of real chest X-rays")
    found = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in ENDINGS)
    if not found:
        pytest.skip(f"{folder} holds no PNG or JPEG image")
    return found


def test_whole_images_are_well_exposed(images: list[Path]) -> None:
    for path in images:
        if "truncated" in path.stem:
            continue
        image = read_image(path)
        assert image.ndim == 2, path
        assert 40 < image.mean() < 215, f"{path} is nearly black or white"
        assert image.std() > 10, f"{path} has no contrast"
        assert pad_to_square(image).shape == (max(image.shape),) * 2, path


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
    truncated = [path for path in images if "truncated" in path.stem]
    if not truncated:
        pytest.skip("the folder holds no image named as truncated")
    for path in truncated:
        with pytest.raises(DataError, match=path.name):
            read_image(path)
