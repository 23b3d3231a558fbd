"""`data=padchest` from a folder to a score: the sample table, with an image for every row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig
from PIL import Image

from xrayexp import pipeline
from xrayexp.cli import main
from xrayexp.data.appearance import _drawn_chest
from xrayexp.errors import DataError
from xrayexp.tracking.summary import TrainingSummary

SAMPLE = Path(__file__).parents[2] / "docs" / "padchest_sample.csv"
SPLIT = ("data.split.shares={train: 0.6, validation: 0.2, test: 0.2}", "data.num_workers=1")
# The tiny model's prompt is short, and PadChest's reports are longer than a phantom's.
TINY = ("model=tiny", "data.prompt=Write a report.", "model.max_length=256", "data.max_images.validation=4")


@pytest.fixture
def train(compose: Callable[..., DictConfig], padchest: Path, tmp_path: Path) -> Callable[..., TrainingSummary]:
    def run(*overrides: str) -> TrainingSummary:
        choices = ("data=padchest", f"data.root={padchest}", f"data.cache_dir={tmp_path / 'cache'}", *TINY, *SPLIT)
        steps = ("trainer.max_steps=2", "trainer.effective_batch_size=8", "trainer.validate_every=2", "test=true")
        return pipeline.train(compose(*choices, *steps, *overrides))

    return run


def test_a_run_on_padchest(train: Callable[..., TrainingSummary], tmp_path: Path) -> None:
    summary = train("data.cache=disk", "augmentation=cxr", "curriculum=paced")
    assert summary.data == "padchest"
    assert summary.broken_images == 0
    splits = pd.read_parquet(summary.folder / "splits.parquet")
    assert set(splits["split"]) == {"train", "validation", "test", "unused"}
    assert len(splits) == 72  # adults with something to report
    assert splits["PatientID"].str.len().max() == 39
    table = pd.read_csv(SAMPLE, dtype=str).set_index("ImageID")
    judging = splits[splits["split"].isin(["validation", "test"])]
    assert set(table.loc[judging["ImageID"], "MethodLabel"]) == {"Physician"}
    balance = pd.read_csv(summary.folder / "split_balance.csv")
    assert {"finding", "images", "train", "validation", "test", "imbalance"} == set(balance.columns)
    lines = (summary.folder / "evaluation" / "test" / "predictions.jsonl").read_text().splitlines()
    tested = splits.loc[splits["split"] == "test", "ImageID"]
    assert {json.loads(line)["image_id"] for line in lines} == set(tested)
    assert list((tmp_path / "cache").glob("squares-64-*/squares.u8"))


def test_a_broken_file_is_left_out(train: Callable[..., TrainingSummary], padchest: Path) -> None:
    victim = sorted(padchest.glob("*/places_by_sentence*"))[0]
    victim.write_bytes(victim.read_bytes()[:200])
    summary = train("data.max_broken_fraction=0.5", "trainer.max_steps=8")
    assert summary.broken_images == 1
    assert victim.name in (summary.folder / "quarantine.csv").read_text()


def test_what_data_check_found_is_left_out_before_training(
    train: Callable[..., TrainingSummary], padchest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truncated = sorted(padchest.glob("*/places_by_sentence*"))[0]
    truncated.write_bytes(truncated.read_bytes()[:200])
    chosen = pd.read_csv(SAMPLE, dtype=str).query("MethodLabel == 'RNN_model' and Projection == 'PA'")["ImageID"]
    constant = next(path for name in chosen for path in padchest.glob(f"*/{name}"))
    Image.fromarray(np.full((60, 50), 700, dtype=np.uint16)).save(constant)
    everyone = "data.split.evaluate_on=null"
    data = [f"data.root={padchest}", f"data.cache_dir={tmp_path / 'cache'}", SPLIT[0], everyone]
    assert main(["data", "check", *data, "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    with pytest.raises(DataError, match=r"images of the \w+ split cannot be read.*max_broken_fraction=0\.01"):
        train(everyone)
    caplog.clear()
    lenient = (everyone, "data.max_broken_fraction=0.5", "data.max_images.validation=null", "trainer.max_steps=1")
    summary = train(*lenient)
    listed = (summary.folder / "quarantine.csv").read_text()
    assert f"{constant.name}," in listed, "nothing but the index knows that it is constant"
    assert f"{truncated.name}," in listed
    assert summary.broken_images == 2
    assert "images do not look like a chest and are used" in caplog.text
    # A file that was replaced since is as good as any other.
    Image.fromarray(np.arange(3000, dtype=np.uint16).reshape(60, 50)).save(constant)
    listed = (train(*lenient).folder / "quarantine.csv").read_text()
    assert f"{truncated.name}," in listed
    assert f"{constant.name}," not in listed


def test_suspects_can_be_dropped(train: Callable[..., TrainingSummary], padchest: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="have not been looked at"):
        train("data.source.suspects=drop")
    rng = np.random.default_rng(1)
    chest = Image.fromarray(_drawn_chest(1.0, 0.0, 0.0, False)).resize((50, 50), Image.Resampling.BICUBIC)
    kept = sorted(padchest.glob("*/*.png"))[::2]
    for path in kept:
        noise = rng.integers(0, 9, size=(50, 50))
        Image.fromarray((np.asarray(chest) // 2 + noise).astype(np.uint8)).save(path)
    data = [f"data.root={padchest}", f"data.cache_dir={tmp_path / 'cache'}", SPLIT[0]]
    assert main(["data", "check", *data, "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    summary = train("data.source.suspects=drop", "data.split.evaluate_on=null")
    used = set(pd.read_parquet(summary.folder / "splits.parquet")["ImageID"])
    assert 20 < len(used) < 60
    assert used <= {path.name for path in kept}


def test_links_out_of_the_folder_stop_the_run(train: Callable[..., TrainingSummary], padchest: Path) -> None:
    (padchest / "0").rename(padchest.parent / "elsewhere")
    (padchest / "0").symlink_to(padchest.parent / "elsewhere")
    with pytest.raises(DataError, match="a link leads out of"):
        train()


@pytest.mark.parametrize("method", ["stratified"])
def test_other_ways_to_select(train: Callable[..., TrainingSummary], method: str, padchest: Path) -> None:
    (padchest / "held_out.txt").write_text("nodule_26-014-084.png\n")
    exclude = f"data.source.exclude={padchest / 'held_out.txt'}"
    chosen = ("data.source.min_age=null", "data.split.evaluate_on=null", exclude)
    summary = train(f"data.split.method={method}", *chosen, "data.preprocessing={crop_borders: true, clahe: 2.0}")
    rows = pd.read_parquet(summary.folder / "splits.parquet")
    assert not rows["ImageID"].str.startswith(("nodule_", "granuloma_")).any()  # one patient
