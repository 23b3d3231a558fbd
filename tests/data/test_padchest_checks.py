from __future__ import annotations

from pathlib import Path

import pytest

from xrayexp.data.checks import padchest_folder

LABELS = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


@pytest.mark.parametrize("root", [None, ""])
def test_no_folder_given(root: str | None) -> None:
    check = padchest_folder(root)
    assert check.status == "missing"
    assert "PADCHEST_DIR" in check.fix
    assert "data.root=" in check.fix
    assert "https://bimcv.cipf.es/" in check.fix


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    check = padchest_folder(str(tmp_path / "PadChest"))
    assert check.status == "missing"
    assert str(tmp_path / "PadChest") in check.detail


def test_no_label_file(tmp_path: Path) -> None:
    check = padchest_folder(str(tmp_path))
    assert check.status == "missing"
    assert LABELS in check.detail


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("image", ["1.png", "0/1.png", "1.jpg"])
def test_labels_and_images(tmp_path: Path, ending: str, image: str) -> None:
    (tmp_path / (LABELS + ending)).touch()
    (tmp_path / image).parent.mkdir(exist_ok=True)
    (tmp_path / image).touch()
    assert padchest_folder(str(tmp_path)).status == "ok"


def test_labels_without_images(tmp_path: Path) -> None:
    (tmp_path / LABELS).touch()
    check = padchest_folder(str(tmp_path))
    assert check.status == "missing"
    assert "no image" in check.detail


def test_images_still_in_their_archives(tmp_path: Path) -> None:
    (tmp_path / LABELS).touch()
    (tmp_path / "0.zip").touch()
    check = padchest_folder(str(tmp_path))
    assert check.status == "missing"
    assert "unzip" in check.fix
