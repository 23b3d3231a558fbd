"""What is kept about image files: it survives kills, and holds as long as the files do not change."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from xrayexp.data.files import ImageFiles
from xrayexp.data.image_index import COLUMNS, ImageIndex, ImageRecord, file_states, holding, known_faults
from xrayexp.errors import UserError

FINE = {"height": 10, "width": 10, "high": 200.0, "one_grey": 0.01, "upright": 0.8, "turned": 0.8, "inverted": 0.4}


def record(root: Path, name: str, limit: float = 40.0, **found: object) -> ImageRecord:
    """A record of a file as it is; without `reason`, of a fine chest."""
    about = (root / name).stat()
    values = FINE | found if "reason" not in found else found
    return ImageRecord(name, about.st_size, about.st_mtime_ns, limit, **values)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def index(root: Path, tmp_path: Path) -> ImageIndex:
    return ImageIndex(tmp_path / "cache", root)


def test_nothing_was_checked(index: ImageIndex) -> None:
    assert index.read().empty
    assert tuple(index.read().columns) == COLUMNS


def test_the_newest_record_of_a_file_holds(index: ImageIndex, root: Path) -> None:
    with index.writing():
        index.add([record(root, "a.png"), record(root, "b.png")])
        index.add([replace(record(root, "a.png"), reason="truncated")])
    before = index.read().sort_values("file", ignore_index=True)
    assert before["reason"].tolist() == ["truncated", ""]
    with index.writing():
        index.put_together()
    assert len(list(index.folder.glob("*.parquet"))) == 1
    pd.testing.assert_frame_equal(index.read().sort_values("file", ignore_index=True), before)


def test_a_write_that_was_cut_off_does_no_harm(index: ImageIndex, root: Path) -> None:
    with index.writing():
        index.add([record(root, "a.png")])
    (index.folder / "00000002.tmp").write_bytes(b"PAR1")
    assert index.read()["file"].tolist() == ["a.png"]


def test_two_checks_do_not_write_at_once(index: ImageIndex) -> None:
    with index.writing(), pytest.raises(UserError, match="another `xrayexp data check`"), index.writing():
        pass


def test_every_folder_has_its_own(index: ImageIndex, tmp_path: Path) -> None:
    assert ImageIndex(tmp_path / "cache", tmp_path / "other").folder != index.folder


def test_a_file_that_changed_is_not_known(root: Path) -> None:
    table = pd.DataFrame([asdict(record(root, name)) for name in ("a.png", "b.png", "c.png")])
    (root / "a.png").write_text("longer than before")
    os.utime(root / "b.png", ns=(1, 1))
    states = file_states(root, ["a.png", "b.png", "c.png", "gone.png"])
    assert "gone.png" not in states
    assert holding(table, states, 40.0)["file"].tolist() == ["c.png"]


@pytest.mark.parametrize(
    "found, limit, known",
    [
        ({}, 1.0, True),
        ({}, math.inf, True),
        ({}, 0.00001, False),  # 100 pixels are more than this limit
        ({"reason": "too large"}, 40.0, True),
        ({"reason": "too large"}, 80.0, False),
    ],
)
def test_another_limit_asks_again_where_it_matters(
    root: Path, found: dict[str, Any], limit: float, known: bool
) -> None:
    table = pd.DataFrame([asdict(record(root, "a.png", **found))])
    assert len(holding(table, file_states(root, ["a.png"]), limit)) == known


def test_faults_by_image(root: Path) -> None:
    records = [
        record(root, "a.png", reason="a.png: truncated"),
        record(root, "b.png", high=0.0),  # low is 0 too
        record(root, "c.png", upright=0.1, turned=0.2),
    ]
    table = pd.DataFrame([asdict(one) for one in records])
    images = ImageFiles(root, {f"id_{name}": f"{name}.png" for name in "abc"}, {}, 40.0)
    faults = known_faults(table, images)
    assert faults.broken.keys() == {"id_a", "id_b"}
    assert "truncated" in faults.broken["id_a"]
    assert "constant" in faults.broken["id_b"]
    assert faults.suspect.keys() == {"id_c"}
    (root / "a.png").write_text("mended")
    (root / "c.png").write_text("replaced")
    faults = known_faults(table, images)
    assert set(faults.broken) == {"id_b"}
    assert not faults.suspect


def test_faults_of_other_images_do_not_matter(root: Path) -> None:
    table = pd.DataFrame([asdict(record(root, "a.png", reason="truncated"))])
    assert known_faults(table, ImageFiles(root, {"b": "b.png"}, {}, 40.0)).broken == {}
