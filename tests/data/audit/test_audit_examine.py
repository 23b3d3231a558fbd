"""Image files are looked at once, whatever happens in between."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from xrayexp.data.audit.examine import Task, examine, examine_images
from xrayexp.data.files import ImageFiles
from xrayexp.data.image_index import ImageIndex, file_states

REPOSITORY = Path(__file__).parents[3]

# Looks at a folder, keeps every record at once, and waits for ever when it has kept five.
CUT_OFF = """
import sys
from pathlib import Path
from xrayexp.data.audit import examine
from xrayexp.data.files import ImageFiles
from xrayexp.data.image_index import ImageIndex

if __name__ == "__main__":
    root, cache = Path(sys.argv[1]), Path(sys.argv[2])
    examine.KEPT_EVERY = 0.0
    kept, add = [], ImageIndex.add

    def add_five(self, records):
        add(self, records)
        kept.extend(records)
        if len(kept) == 5:
            print("kept", flush=True)
            sys.stdin.read()

    ImageIndex.add = add_five
    files = {path.name: path.name for path in root.iterdir()}
    examine.examine_images(ImageIndex(cache, root), ImageFiles(root, files, {}), 2)
"""


@pytest.fixture
def images(tmp_path: Path) -> ImageFiles:
    """Forty images, of which one is broken."""
    root = tmp_path / "images"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(rng.integers(0, 4096, size=(30, 20)).astype(np.uint16)).save(root / f"{number}.png")
    (root / "7.png").write_bytes((root / "7.png").read_bytes()[:100])
    return ImageFiles(root, {path.name: path.name for path in root.iterdir()}, {}, 40.0)


def task(path: Path) -> Task:
    [state] = file_states(path.parent, [path.name]).values()
    return Task(path.parent, path.name, state, 40.0)


def test_a_record_says_what_is_in_the_file(tmp_path: Path) -> None:
    values = np.arange(100, 700, dtype=np.uint16).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = examine(task(tmp_path / "a.png"))
    assert (found.height, found.width, found.low, found.high, found.reason) == (20, 30, 100, 699, "")


def test_the_same_pixels_in_another_file_have_the_same_digest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, size=(20, 30)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(grey).convert("RGBA").save(tmp_path / "b.png")
    Image.fromarray(grey.reshape(30, 20)).save(tmp_path / "c.png")
    a, b, c = (examine(task(tmp_path / name)).digest for name in ("a.png", "b.png", "c.png"))
    assert a == b != c


def test_colours_are_seen_and_grey_in_colour_is_not(tmp_path: Path) -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[:16, :, 0] = 200
    Image.fromarray(red).save(tmp_path / "red.png")
    Image.fromarray(red[..., 0]).convert("RGB").save(tmp_path / "grey.png")
    assert examine(task(tmp_path / "red.png")).coloured == pytest.approx(0.25)
    assert examine(task(tmp_path / "grey.png")).coloured == 0


def test_too_large_is_a_reason(tmp_path: Path) -> None:
    Image.new("L", (2000, 30)).save(tmp_path / "a.png")
    [state] = file_states(tmp_path, ["a.png"]).values()
    assert "max_megapixels=0.05" in examine(Task(tmp_path, "a.png", state, 0.05)).reason


def test_what_is_known_is_not_read_again(images: ImageFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    index = ImageIndex(tmp_path / "cache", images.root)
    found = examine_images(index, images, 2)
    assert len(found) == 40
    assert found.set_index("file")["reason"].loc["7.png"].startswith(str(images.root / "7.png"))
    assert "0 are known, 40 are read" in caplog.text
    caplog.clear()
    examine_images(index, images, 2)
    assert "are read" not in caplog.text
    os.utime(images.root / "3.png", ns=(1, 1))
    examine_images(index, images, 1)
    assert "39 are known, 1 are read" in caplog.text


def test_a_killed_check_goes_on_and_leaves_no_process(
    images: ImageFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cut_off.py").write_text(CUT_OFF)
    command = [sys.executable, str(tmp_path / "cut_off.py"), str(images.root), str(tmp_path / "cache")]
    program = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "kept\n"
    workers = psutil.Process(program.pid).children(recursive=True)
    program.kill()
    program.communicate()
    assert len(workers) >= 2
    assert psutil.wait_procs(workers, timeout=60)[1] == []

    index = ImageIndex(tmp_path / "cache", images.root)
    assert len(index.read()) == 5
    caplog.set_level(logging.INFO)
    found = examine_images(index, ImageFiles(images.root, images.found, {}), 2)
    assert "5 are known, 35 are read" in caplog.text
    assert sorted(found["file"]) == sorted(images.found)
    assert list(index.folder.glob("[0-9]*"))  # one file is left of many
    assert len(list(index.folder.glob("[0-9]*"))) == 1
