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
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from xrayexp.data.images import fit_square, to_uint8
from xrayexp.data.preprocessing import PreprocessingSection, preprocess
from xrayexp.data.square_cache import CACHE_FORMAT, SquareCache
from xrayexp.errors import DataError

SIZE = 16


def square(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, size=(SIZE, SIZE)).astype(np.uint8)


def cache(folder: Path, *names: str, about: str = "") -> SquareCache:
    return SquareCache(folder, [about], SIZE, names)


def read(one: SquareCache, name: str, version: str = "") -> NDArray[np.uint8] | None:
    return one.read(name, version)


def write(one: SquareCache, name: str, content: NDArray[np.uint8], version: str = "") -> None:
    one.write(name, version, content)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one = cache(tmp_path, "a", "b")
    assert read(one, "a") is None
    write(one, "a", square(1))
    np.testing.assert_array_equal(read(one, "a"), square(1))
    assert read(one, "b") is None
    assert one.filled(["a", "b"]) == 1


def test_other_runs_and_workers_find_it(tmp_path: Path) -> None:
    """With another selection of images, in another order; and as workers get it, pickled."""
    write(cache(tmp_path, "a", "b"), "b", square(2))
    other = cache(tmp_path, "c", "b")
    write(other, "c", square(3))
    sent = pickle.loads(pickle.dumps(other))
    np.testing.assert_array_equal(read(sent, "b"), square(2))
    np.testing.assert_array_equal(read(cache(tmp_path, "c"), "c"), square(3))


def test_its_files_are_closed_with_it(tmp_path: Path) -> None:
    one = cache(tmp_path, "a")
    write(one, "a", square(1))
    assert one._files is not None
    files = one._files
    del one
    for file in files:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)


@pytest.mark.parametrize("about, size", [("clahe", SIZE), ("", 2 * SIZE)])
def test_other_preprocessing_has_a_cache_of_its_own(tmp_path: Path, about: str, size: int) -> None:
    write(cache(tmp_path, "a"), "a", square(1))
    assert read(SquareCache(tmp_path, [about], size, ["a"]), "a") is None


@pytest.mark.parametrize("damage", ["content", "mark", "cut"])
def test_damage_costs_a_square_and_never_gives_a_wrong_one(tmp_path: Path, damage: str) -> None:
    one = cache(tmp_path, "a", "b")
    write(one, "b", square(2))
    path = one.folder / ("marks.u32" if damage == "mark" else "squares.u8")
    content = bytearray(path.read_bytes())
    content[-5 if damage == "content" else -1] ^= 1
    path.write_bytes(content[: -SIZE if damage == "cut" else None])
    assert read(cache(tmp_path, "a", "b"), "b") is None


@pytest.mark.parametrize("rest", [b'"half a na', b'"caf\xc3', b"\0\0\0\0\n", b"7\n"])
def test_a_name_that_was_cut_off_is_written_again(tmp_path: Path, rest: bytes) -> None:
    one = cache(tmp_path, "a")
    write(one, "a", square(1))
    with (one.folder / "names.jsonl").open("ab") as file:
        file.write(rest)
    other = cache(tmp_path, "a", "b")
    write(other, "b", square(2))
    np.testing.assert_array_equal(read(cache(tmp_path, "a"), "a"), square(1))
    np.testing.assert_array_equal(read(cache(tmp_path, "b"), "b"), square(2))
    assert (one.folder / "names.jsonl").read_text() == '"a"\n"b"\n'


@given(st.lists(st.text(max_size=4), unique=True, min_size=1, max_size=8))
def test_any_name_has_a_slot_of_its_own(names: list[str]) -> None:
    """Line breaks of every kind, blanks and quotes among them; the next run finds every image under its name."""
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            write(cache(Path(folder), *names), name, square(number))
        for number, name in enumerate(names):
            np.testing.assert_array_equal(read(cache(Path(folder), *reversed(names)), name), square(number))


def test_a_square_is_never_given_for_another_image(tmp_path: Path) -> None:
    """Even where the names were put in another order."""
    one = cache(tmp_path, "a", "b")
    write(one, "a", square(1))
    (one.folder / "names.jsonl").write_text('"b"\n"a"\n')
    other = cache(tmp_path, "a", "b")
    assert read(other, "a") is None
    assert read(other, "b") is None


def test_another_version_of_an_image_is_prepared_again(tmp_path: Path) -> None:
    one = cache(tmp_path, "a")
    write(one, "a", square(1), "10 bytes")
    assert read(one, "a", "12 bytes") is None
    write(one, "a", square(2), "12 bytes")
    np.testing.assert_array_equal(read(one, "a", "12 bytes"), square(2))


def test_what_is_read_may_be_written_to(tmp_path: Path) -> None:
    """torch warns of memory that may not."""
    one = cache(tmp_path, "a")
    write(one, "a", square(1))
    found = read(one, "a")
    assert found is not None
    found[:] = 0
    np.testing.assert_array_equal(read(one, "a"), square(1))


def test_it_survives_kill_9(tmp_path: Path) -> None:
    """Two processes fill the same slots and are killed at once: every square that is there is right."""
    names = [str(number) for number in range(400)]
    code = (
        "import sys; from pathlib import Path; import numpy as np; from xrayexp.data.square_cache import SquareCache\n"
        "names = [str(n) for n in range(400)]; c = SquareCache(Path(sys.argv[1]), [''], 16, names)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for n in names:\n"
        "        c.write(n, '', np.random.default_rng(int(n)).integers(0, 256, size=(16, 16)).astype(np.uint8))\n"
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
    there = [name for name in names if read(watched, name) is not None]
    assert len(there) >= 49
    for name in there:
        np.testing.assert_array_equal(read(watched, name), square(int(name)))


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
    write(one, "a", square(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(0, 0, SIZE**2))
    cache(tmp_path, "a", "b")  # one is there, the other fits
    with pytest.raises(DataError, match=r"needs .* more and the disk has"):
        cache(tmp_path, "a", "b", "c")


def test_a_refused_cache_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(0, 0, SIZE**2))
    with pytest.raises(DataError):
        cache(tmp_path, "a", "b")
    assert list(tmp_path.rglob("squares.u8")) == []


def test_a_full_disk_costs_the_cache_and_not_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = cache(tmp_path, "a", "b")
    caplog.clear()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        write(one, "a", square(1))
        write(one, "b", square(2))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert read(one, "a") is None
    write(one, "a", square(1))
    np.testing.assert_array_equal(read(one, "a"), square(1))


def test_a_broken_disk_costs_a_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = cache(tmp_path, "a")
    write(one, "a", square(1))

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    assert read(one, "a") is None
    assert "Input/output error" in caplog.text


def test_other_caches_are_named_with_their_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    old = SquareCache(tmp_path, ["clahe=2.0"], 1024, ["a", "b"])
    assert "others in" not in caplog.text
    old.write("a", "", np.ones((1024, 1024), dtype=np.uint8))
    os.utime(old.folder / "about.txt", (0, 0))
    cache(tmp_path, "a")
    SquareCache(tmp_path, ["clahe=3.0"], SIZE, ["a"])
    assert f"others in {tmp_path} take 0.00 GiB (2 in all" in caplog.text
    assert f"the one not used for longest is {old.folder.name}, 1970-01-01)" in caplog.text
    assert "clahe=2.0" in (old.folder / "about.txt").read_text()


def test_new_pixels_need_a_new_format() -> None:
    """A cache that was made before must not be taken for what the code makes of an image now."""
    rows, columns = np.mgrid[:60, :50].astype(np.uint16)
    deep = 300 + 37 * rows + 11 * columns + (rows * columns) % 97
    square = fit_square(preprocess(to_uint8(deep), PreprocessingSection(True, None))[0], 32, Image.Resampling.BILINEAR)
    digest = blake2b(square.tobytes(), digest_size=8).hexdigest()
    assert (CACHE_FORMAT, digest) == (2, "f5ff2f4997d9142a"), "raise CACHE_FORMAT, and put it here with the new digest"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"set data\.cache_dir"):
        cache(tmp_path / "file", "a")
