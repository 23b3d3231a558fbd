"""The file of losses: what is written is read, and what is not that is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.losses import read_losses, write_losses
from xrayexp.errors import DataError

names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8)  # also "nan", "1", commas, quotes
losses = st.dictionaries(names, st.floats(0, allow_infinity=False, allow_nan=False), min_size=1, max_size=8)


@given(losses, st.randoms())
def test_what_is_written_is_read_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, of, random) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path_factory.mktemp("losses") / "losses.csv"
    write_losses(file, of)
    asked = random.sample(sorted(of), random.randint(1, len(of)))
    assert read_losses(file, asked).tolist() == [of[name] for name in asked]
    assert [path.name for path in file.parent.iterdir()] == ["losses.csv"]


def test_an_image_that_could_not_be_read_is_the_hardest(tmp_path: Path) -> None:
    write_losses(tmp_path / "losses.csv", {"a": 1.0, "broken": None, "b": 2.5, "unused": 9.0})
    assert read_losses(tmp_path / "losses.csv", ["broken", "a", "b"]).tolist() == [2.5, 1.0, 2.5]


def test_images_without_a_loss_are_named(tmp_path: Path) -> None:
    write_losses(tmp_path / "losses.csv", {"a": 1.0})
    with pytest.raises(DataError, match=r"no loss for 4 of 5 training images, such as b, c, d: .*xrayexp losses RUN"):
        read_losses(tmp_path / "losses.csv", ["a", "b", "c", "d", "e"])


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot read the losses"),
        ("", "cannot read the losses"),
        ("image_id,loss\na,high\n", "cannot read the losses"),
        ("image_id,loss\na,1\na,2\n", "one finite loss for each image_id"),
        ("image_id,loss\na,inf\n", "one finite loss for each image_id"),
        ("image_id,loss\na,\n", "one finite loss for each image_id"),
        ("image,loss\na,1\n", "one finite loss for each image_id"),
        ("image_id,score\na,1\n", "one finite loss for each image_id"),
        ("image_id,loss,more\na,1,2\n", "one finite loss for each image_id"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "losses.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        read_losses(file, ["a"])
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_losses_are_numbers_whatever_the_images_are_called(tmp_path: Path) -> None:
    write_losses(tmp_path / "losses.csv", {"007": 0.1, "nan": 0.2, "": 0.3})
    assert np.array_equal(read_losses(tmp_path / "losses.csv", ["nan", "007", ""]), [0.2, 0.1, 0.3])
