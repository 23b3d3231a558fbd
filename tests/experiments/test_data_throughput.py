"""What is read is of PadChest's shape, and the ways that are compared read the same picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.data_throughput.loaders import FROM_CACHE
from experiments.data_throughput.radiographs import files_of, folder_of_radiographs
from experiments.data_throughput.readers import CACHE, DECODE, PIL_LOOP, PREPARE, SIZE, readers
from experiments.data_throughput.run import QUICK, STUDY
from xrayexp.data.padchest import PadChestSource


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_radiographs(tmp_path_factory.mktemp("work"), QUICK | {"copies": 2})


def test_the_files_are_like_padchests(folder: Path) -> None:
    for path in files_of(folder):
        with Image.open(path) as file:
            values = np.asarray(file)
            assert (file.format, file.mode, file.size) == ("PNG", "I;16", (QUICK["width"], QUICK["height"]))
        assert 2**11 < values.max() < 2**12
    source = PadChestSource(str(folder), min_age=18)
    names = source.table()["ImageID"]
    assert names.is_unique
    assert len(names) == 2 * 72
    assert source.absent(list(names)) == {}
    assert source.image(names.iloc[0]).shape == (QUICK["height"], QUICK["width"])


def test_the_folder_is_made_once(folder: Path) -> None:
    before = [path.stat().st_mtime_ns for path in files_of(folder)]
    assert folder_of_radiographs(folder.parent, QUICK | {"copies": 2}) == folder
    assert [path.stat().st_mtime_ns for path in files_of(folder)] == before


def test_ways_read_the_same_picture(folder: Path, tmp_path: Path) -> None:
    path = files_of(folder)[0]
    ways = readers([path], tmp_path)
    square, plain = ways[PREPARE](path), ways[PIL_LOOP](path)
    assert square.shape == plain.shape == (SIZE, SIZE)
    assert np.array_equal(ways[CACHE](path), square)
    assert ways[DECODE](path).shape == (QUICK["height"], QUICK["width"])
    wide = np.asarray(Image.fromarray(square[:, 80:-80]).resize((SIZE, SIZE)))  # without the black at its sides
    assert np.corrcoef(wide.ravel(), plain.ravel())[0, 1] > 0.9


def test_the_claim_is_about_the_slowest_loader() -> None:
    ways = {PIL_LOOP: {"images": 10, "cpu": 1.0, "wall": 1.0}}
    ways |= {way: {"images": 10, "cpu": 0.1 * number, "wall": 1.0} for number, way in enumerate(FROM_CACHE.values(), 1)}
    (claim,) = STUDY.claims({"round 0": {"ways": ways}, "round 1": {"ways": ways}})
    assert claim.value == pytest.approx(1 / 0.3)
