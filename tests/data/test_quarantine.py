"""Broken images: left out, named once, counted, and fatal when there are too many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from xrayexp import pipeline
from xrayexp.data.collate import BrokenImage
from xrayexp.data.files import find_images
from xrayexp.data.phantom import PhantomSource
from xrayexp.data.quarantine import Quarantine
from xrayexp.errors import DataError

Compose = Callable[..., DictConfig]


def broken(*names: str) -> list[BrokenImage]:
    return [BrokenImage(name, f"{name}: truncated") for name in names]


def test_named_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Quarantine({"train": 100, "test": 100}, 0.05, tmp_path / "quarantine.csv")
    kept.add("train", broken("a", "b"))
    kept.add("train", broken("a"))
    kept.add("test", broken("a"))
    assert (len(kept), kept.count("train"), kept.count("test")) == (3, 2, 1)
    assert caplog.text.count("a: truncated") == 2
    lines = (tmp_path / "quarantine.csv").read_text().splitlines()
    assert lines == ["image_id,split,reason", "a,train,a: truncated", "b,train,b: truncated", "a,test,a: truncated"]


def test_an_earlier_part_of_the_run_counts(tmp_path: Path) -> None:
    Quarantine({"train": 100}, 0.01, tmp_path / "q.csv").add("train", broken("a"))
    again = Quarantine({"train": 100}, 0.01, tmp_path / "q.csv")
    again.add("train", broken("a"))
    with pytest.raises(DataError, match=r"2 of 100 images of the train split.*max_broken_fraction=0\.01.*b: truncated"):
        again.add("train", broken("b"))


class Faulty(PhantomSource):
    """Phantoms of which some files are broken, and some are not there."""

    def __init__(self, broken: Sequence[str] = (), missing: Sequence[str] = (), **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.broken, self.missing = frozenset(broken), frozenset(missing)

    def image(self, image_id: str) -> NDArray[np.uint8]:
        if image_id in self.broken:
            raise DataError(f"{image_id}: truncated")
        return super().image(image_id)

    def absent(self, image_ids: Sequence[str]) -> dict[str, str]:
        return {image_id: f"{image_id}: no such file" for image_id in image_ids if image_id in self.missing}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_without_its_broken_images(
    compose: Compose, small: Sequence[str], workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = compose(*small, f"data.num_workers={workers}", "data.max_broken_fraction=0.25", "trainer.max_steps=8")
    source = instantiate(cfg.data.source, _convert_="all")
    from xrayexp.data.partition import partition
    from xrayexp.settings import Settings

    parts = partition(Settings.from_config(cfg).data, source, None).examples
    bad = [parts["train"][number].image_id for number in (0, 5)] + [parts["validation"][0].image_id]
    gone = [parts["train"][9].image_id]
    cfg.data.source._target_ = f"{__name__}.Faulty"
    from omegaconf import OmegaConf

    OmegaConf.update(cfg, "data.source.broken", bad, force_add=True)
    OmegaConf.update(cfg, "data.source.missing", gone, force_add=True)
    summary = pipeline.train(cfg)
    assert summary.steps == 8
    assert summary.broken_images == 4
    listed = (summary.folder / "quarantine.csv").read_text()
    assert all(listed.count(f"{name},") == 1 for name in [*bad, *gone])
    assert caplog.text.count("left out of") == 4


def test_too_many_missing_images_stop_a_run_before_it_begins(compose: Compose, small: Sequence[str]) -> None:
    from omegaconf import OmegaConf

    cfg = compose(*small)
    source = instantiate(cfg.data.source, _convert_="all")
    everyone = source.table()["ImageID"].tolist()
    cfg.data.source._target_ = f"{__name__}.Faulty"
    OmegaConf.update(cfg, "data.source.missing", everyone, force_add=True)
    with pytest.raises(DataError, match="64 of 64 images of the train split cannot be read"):
        pipeline.train(cfg)


def test_absent_images_are_found_by_listing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "0").mkdir(parents=True)
    (root / "1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (root / "0" / "in.png").touch()
    (root / "flat.png").touch()
    (tmp_path / "elsewhere" / "out.png").touch()
    (root / "0" / "link.png").symlink_to(tmp_path / "elsewhere" / "out.png")
    (root / "0" / "fine.png").symlink_to(root / "0" / "in.png")
    folders: Mapping[str, str] = {
        "in.png": "0", "flat.png": "7", "out.png": "1", "link.png": "0", "fine.png": "0", "none.png": "0",
    }  # fmt: skip
    images = find_images(root, folders)
    assert images.found == {"in.png": "0/in.png", "flat.png": "flat.png", "fine.png": "0/fine.png"}
    found = images.absent
    assert found.keys() == {"out.png", "link.png", "none.png"}
    assert "no such file" in found["none.png"]
    assert "a link leads out" in found["out.png"]
    assert "a link leads out" in found["link.png"]
