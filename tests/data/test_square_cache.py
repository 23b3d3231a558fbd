"""The image cache: what it gives back is what was put in, or nothing."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from xrayexp.data.square_cache import SquareCache
from xrayexp.errors import DataError

SIZE = 16


def square(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, size=(SIZE, SIZE)).astype(np.uint8)


def cache(folder: Path, *names: str, about: str = "") -> SquareCache:
    return SquareCache(folder, [about], SIZE, names)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one = cache(tmp_path, "a", "b")
    assert one.read("a") is None
    one.write("a", square(1))
    np.testing.assert_array_equal(one.read("a"), square(1))
    assert one.read("b") is None
    assert one.filled(["a", "b"]) == 1


def test_other_runs_and_workers_find_it(tmp_path: Path) -> None:
    """With another selection of images, in another order; and as workers get it, pickled."""
    cache(tmp_path, "a", "b").write("b", square(2))
    other = cache(tmp_path, "c", "b")
    other.write("c", square(3))
    sent = pickle.loads(pickle.dumps(other))
    np.testing.assert_array_equal(sent.read("b"), square(2))
    np.testing.assert_array_equal(cache(tmp_path, "c").read("c"), square(3))


@pytest.mark.parametrize("about, size", [("clahe", SIZE), ("", 2 * SIZE)])
def test_other_preprocessing_has_a_cache_of_its_own(tmp_path: Path, about: str, size: int) -> None:
    cache(tmp_path, "a").write("a", square(1))
    assert SquareCache(tmp_path, [about], size, ["a"]).read("a") is None


@pytest.mark.parametrize("damage", ["content", "mark", "cut"])
def test_damage_costs_a_square_and_never_gives_a_wrong_one(tmp_path: Path, damage: str) -> None:
    one = cache(tmp_path, "a", "b")
    one.write("b", square(2))
    path = one.folder / ("marks.u32" if damage == "mark" else "squares.u8")
    content = bytearray(path.read_bytes())
    content[-5 if damage == "content" else -1] ^= 1
    path.write_bytes(content[: -SIZE if damage == "cut" else None])
    assert cache(tmp_path, "a", "b").read("b") is None


def test_a_name_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    one = cache(tmp_path, "a")
    one.write("a", square(1))
    with (one.folder / "names.txt").open("a") as file:
        file.write("half a na")
    other = cache(tmp_path, "a", "b")
    other.write("b", square(2))
    np.testing.assert_array_equal(cache(tmp_path, "b").read("b"), square(2))
    assert (one.folder / "names.txt").read_text() == "a\nb\n"


def test_it_survives_kill_9(tmp_path: Path) -> None:
    """Two processes fill the same slots and are killed at once: every square that is there is right."""
    names = [str(number) for number in range(400)]
    code = (
        "import sys; from pathlib import Path; import numpy as np; from xrayexp.data.square_cache import SquareCache\n"
        "names = [str(n) for n in range(400)]; c = SquareCache(Path(sys.argv[1]), [''], 16, names)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for n in names:\n"
        "        c.write(n, np.random.default_rng(int(n)).integers(0, 256, size=(16, 16)).astype(np.uint8))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)]
    watched = cache(tmp_path, *names)
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    while watched.filled(names) < 50:
        pass
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    there = [name for name in names if watched.read(name) is not None]
    assert len(there) >= 49
    for name in there:
        np.testing.assert_array_equal(watched.read(name), square(int(name)))


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_the_size_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = cache(tmp_path, "a", "b")
    assert "2 images of 16 x 16 pixels" in caplog.text
    one.write("a", square(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(0, 0, SIZE**2))
    cache(tmp_path, "a", "b")  # one is there, the other fits
    with pytest.raises(DataError, match=r"needs .* more and the disk has"):
        cache(tmp_path, "a", "b", "c")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = cache(tmp_path, "a")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DataError, match="no room left for the image cache"):
        one.write("a", square(1))
    assert one.read("a") is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"set data\.cache_dir"):
        cache(tmp_path / "file", "a")
