"""What an audit says of a folder in PadChest's shape."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image

from xrayexp.config import parse_section
from xrayexp.data.audit.audit import Audit, audit, audit_folder
from xrayexp.data.audit.labels import label_statistics
from xrayexp.data.config import DataSection
from xrayexp.data.label_file import LABEL_FILES
from xrayexp.data.report import Finding
from xrayexp.errors import DataError

Compose = Callable[..., DictConfig]
SPLIT = "data.split.shares={train: 0.6, validation: 0.2, test: 0.2}"


@pytest.fixture
def look(compose: Compose, padchest: Path, tmp_path: Path) -> Callable[..., Audit]:
    def run(*overrides: str) -> Audit:
        section = data_section(compose, padchest, tmp_path, SPLIT, *overrides)
        return audit(section, instantiate(section.source, _convert_="all"), 1)

    return run


def data_section(compose: Compose, padchest: Path, tmp_path: Path, *overrides: str) -> DataSection:
    cfg = compose("data=padchest", f"data.root={padchest}", f"data.cache_dir={tmp_path / 'cache'}", *overrides)
    problems: list[str] = []
    section = parse_section(cfg, "data", DataSection, problems)
    assert section is not None, problems
    return section


def test_every_problem_is_named(look: Callable[..., Audit], padchest: Path) -> None:
    clean = look()
    assert clean.images is not None
    used = clean.images.records[clean.images.records["split"] == "train"].sort_values("file")["file"].tolist()
    gone, cut, flat, twin, template = used[:5]
    (padchest / gone).unlink()
    (padchest / cut).write_bytes((padchest / cut).read_bytes()[:200])
    Image.fromarray(np.full((60, 50), 9, dtype=np.uint16)).save(padchest / flat)
    shutil.copyfile(padchest / template, padchest / twin)
    found = look()
    assert found.images is not None
    problems = {kind: set(rows["image_id"]) for kind, rows in found.images.problems.groupby("kind")}
    assert problems["missing"] == {Path(gone).name}
    assert problems["unreadable"] == {Path(cut).name}
    assert problems["constant"] == {Path(flat).name}
    assert len(problems["duplicate"]) == 1
    assert problems["duplicate"] <= {Path(twin).name, Path(template).name}
    assert found.broken("train") == 3
    assert found.broken("test") == 0
    assert not found.fine
    assert "3 of" in found.obstacles()[0]
    assert "images of the train split are missing or broken" in found.obstacles()[0]
    assert look("data.max_broken_fraction=0.5").fine


def test_noise_is_suspect_and_does_not_stop_a_training(look: Callable[..., Audit]) -> None:
    found = look()
    assert found.images is not None
    assert found.images.count("suspect") == 72
    assert found.fine


def test_copies_in_two_splits_are_noted(look: Callable[..., Audit], padchest: Path) -> None:
    images = look().images
    assert images is not None
    train, test = (images.records[images.records["split"] == split].iloc[0]["file"] for split in ("train", "test"))
    shutil.copyfile(padchest / train, padchest / test)
    found = look()
    assert found.images is not None
    assert found.images.crossing == 1
    assert "1 groups of identical images lie in more than one split" in found.notes[0]


def test_rows_splits_and_labels(look: Callable[..., Audit]) -> None:
    found = look()
    assert found.funnel[0] == (f"rows of {LABEL_FILES[0]}", 100)
    assert found.funnel[-1] == ("18 years or older", 72)
    assert sum(found.splits.values()) == 72
    assert set(found.splits) == {"train", "validation", "test", "unused"}
    assert found.labels is not None
    assert found.labels.images == 72
    assert found.labels.per_image.sum() == 72
    assert found.labels.methods.to_dict().keys() == {"Physician", "RNN_model"}
    assert found.labels.projections.sum() == 72


def test_labels_without_images(look: Callable[..., Audit], padchest: Path) -> None:
    for folder in [path for path in padchest.iterdir() if path.is_dir()]:
        shutil.rmtree(folder)
    found = look()
    assert "none of the 72 images is in" in found.notes[0]
    assert found.images is not None
    assert found.images.count("missing") == 72
    assert not found.fine


def test_a_split_that_is_empty_is_an_obstacle(look: Callable[..., Audit]) -> None:
    found = look("data.split.shares={train: 0.9998, validation: 0.0001, test: 0.0001}")
    assert not found.fine
    assert "split is empty" in found.obstacles()[0]
    assert found.splits == {"all": 72}


def test_a_folder_without_labels(compose: Compose, padchest: Path, tmp_path: Path) -> None:
    (padchest / LABEL_FILES[0]).unlink()
    outside = tmp_path / "outside.png"
    Image.new("L", (30, 30)).save(outside)
    (padchest / "link.png").symlink_to(outside)
    found = audit_folder(data_section(compose, padchest, tmp_path), padchest, 1)
    assert found.images is not None
    assert len(found.images.records) == 100
    assert found.images.problems.iloc[0]["image_id"] == "link.png"
    assert "a link leads out of" in found.images.problems.iloc[0]["reason"]
    assert "no label file" in found.notes[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither a label file nor an image"):
        audit_folder(data_section(compose, padchest, tmp_path), tmp_path / "empty", 1)


def test_phantoms_have_labels_and_no_files(compose: Compose) -> None:
    problems: list[str] = []
    section = parse_section(compose("data.source.patients=200"), "data", DataSection, problems)
    assert section is not None
    found = audit(section, instantiate(section.source, _convert_="all"), 1)
    assert found.images is None
    assert found.fine
    assert "draws its images" in found.notes[0]


def test_counts_of_labels() -> None:
    effusion, nodule = Finding("pleural effusion", ("left",)), Finding("nodule")
    rows = [(effusion, nodule), (effusion, Finding("pleural effusion", ("right",))), (Finding("normal"),), (nodule,)]
    table = pd.DataFrame(
        {"ImageID": list("abcd"), "PatientID": list("ppqr"), "StudyID": list("stuv"), "findings": rows}
    )
    found = label_statistics(table)
    assert (found.images, found.patients, found.studies) == (4, 3, 4)
    assert found.findings.to_dict() == {"nodule": 2, "pleural effusion": 2, "normal": 1}
    assert found.per_image.to_dict() == {0: 1, 1: 2, 2: 1}
    assert found.together.loc["nodule", "pleural effusion"] == 0.5
    assert found.together.loc["nodule", "nodule"] == 1
    assert len(found.projections) == 0
