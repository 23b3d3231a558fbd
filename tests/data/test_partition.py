"""Who is in which split: whose labels may judge, what is synthetic, and how evenly findings are spread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image

from xrayexp.config import parse_section
from xrayexp.data.config import DataSection
from xrayexp.data.examples import Source
from xrayexp.data.partition import Partition, partition
from xrayexp.data.splits import STRATIFIED, assign_splits, check_no_leakage, split_balance
from xrayexp.data.stratification import stratify
from xrayexp.data.synthetic import SyntheticFolder, synthetic_rows
from xrayexp.errors import DataError

Compose = Callable[..., DictConfig]

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
NOTHING: tuple[str, ...] = ()


class Rows:
    """A source with the rows that a test gives it."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.rows = table

    def table(self) -> pd.DataFrame:
        return self.rows

    def image(self, image_id: str) -> NDArray[np.uint8]:
        raise AssertionError("no image is needed to split")

    origin = "rows"

    def version(self, image_id: str) -> str:
        return ""

    def absent(self, image_ids: Sequence[str]) -> Mapping[str, str]:
        return {}


def rows(count: int, prefix: str = "", method: str = "Physician", finding: str = "nodule") -> pd.DataFrame:
    flat = f"['{finding}']" if method == "RNN_model" else f"[['{finding}']]"
    numbers = [f"{prefix}{number}" for number in range(count)]
    return pd.DataFrame(
        {
            "ImageID": [f"{n}.png" for n in numbers],
            "PatientID": [f"p{n}" for n in numbers],
            "StudyID": [f"s{n}" for n in numbers],
            "ReportID": [f"r{n}" for n in numbers],
            "MethodLabel": method,
            "LabelsLocalizationsBySentence": flat,
        }
    )


@pytest.fixture
def split(compose: Compose) -> Callable[..., Partition]:
    def parted(source: Source, *overrides: str, synthetic: Source | None = None) -> Partition:
        problems: list[str] = []
        limits = "data.max_images={train: null, validation: null, test: null}"
        section = parse_section(compose(limits, *overrides), "data", DataSection, problems)
        assert section is not None, problems
        return partition(section, source, synthetic)

    return parted


def share(most: float) -> str:
    return f"data.synthetic={{source: {{_target_: none}}, max_share: {most}}}"


def test_only_radiologists_labels_judge(split: Callable[..., Partition]) -> None:
    table = pd.concat([rows(200, "a"), rows(200, "b", "RNN_model")], ignore_index=True)
    strict = split(Rows(table), "data.split.evaluate_on=[Physician]")
    assert {e.method for name in ("validation", "test") for e in strict.examples[name]} == {"Physician"}
    assert {e.method for e in strict.examples["train"]} == {"Physician", "RNN_model"}
    everyone = split(Rows(table))
    assert strict.examples["train"] == everyone.examples["train"]
    listed = strict.rows.set_index("ImageID")["split"]
    assert len(listed) == 400
    unused = {image for image, where in listed.items() if where == "unused"}
    dropped = {e.image_id for name in ("validation", "test") for e in everyone.examples[name]} - {
        e.image_id for name in ("validation", "test") for e in strict.examples[name]
    }
    assert unused == dropped != set()


def test_synthetic_images_are_trained_on_and_capped(
    split: Callable[..., Partition], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    real, made = Rows(rows(300, "a")), Rows(rows(500, "z").assign(provenance="diffusion model 7"))
    parts = split(real, share(0.2), synthetic=made)
    plain = split(real)
    assert parts.examples["validation"] == plain.examples["validation"]
    assert parts.examples["test"] == plain.examples["test"]
    added = parts.examples["train"][len(plain.examples["train"]) :]
    assert {e.provenance for e in added} == {"diffusion model 7"}
    assert 0.19 < parts.synthetic_share <= 0.2
    assert "of 500 in training" in caplog.text
    assert plain.synthetic_share == 0.0


@pytest.mark.parametrize("column", ["PatientID", "StudyID", "ReportID"])
def test_what_is_made_from_a_test_patient_is_dropped(split: Callable[..., Partition], column: str) -> None:
    table = rows(300, "a")
    made = rows(300, "z")
    made[column] = table[column]
    parts = split(Rows(table), share(0.5), synthetic=Rows(made))
    training = {e.image_id for e in parts.examples["train"] if e.provenance is None}
    added = {e.image_id for e in parts.examples["train"] if e.provenance is not None}
    assert added == {image.replace("a", "z") for image in training}


def test_a_name_of_a_real_image_is_refused() -> None:
    table = rows(3).assign(group="g")
    with pytest.raises(DataError, match="3 synthetic images have the ImageID of a real one"):
        synthetic_rows(Rows(rows(3)), table)


def test_a_folder_of_synthetic_images(tmp_path: Path) -> None:
    table = rows(2).assign(provenance=["by model", "by hand"])
    table.to_csv(tmp_path / "labels.csv", index=False)
    Image.fromarray(np.full((8, 8), 7, dtype=np.uint8)).save(tmp_path / "0.png")
    source = SyntheticFolder(str(tmp_path))
    assert source.table()["provenance"].tolist() == ["by model", "by hand"]
    assert source.image("0.png").mean() == 7
    assert list(source.absent(["0.png", "1.png"])) == ["1.png"]
    assert source.origin == str(tmp_path.resolve())
    before = source.version("0.png")
    Image.fromarray(np.full((9, 9), 8, dtype=np.uint8)).save(tmp_path / "0.png")
    assert source.version("0.png") != before
    with pytest.raises(DataError, match=r"1\.png: no such file"):
        source.version("1.png")
    for column, value, message in (
        ("provenance", None, "do not say where"),
        ("ImageID", "../0.png", "no plain file names"),
    ):
        table.assign(**{column: value}).to_csv(tmp_path / "labels.csv", index=False)
        with pytest.raises(DataError, match=message):
            source.table()
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv"):
        source.table()


def test_phantoms_serve_as_synthetic_images(compose: Compose, split: Callable[..., Partition]) -> None:
    cfg = compose("data.source.patients=20", "data.source.seed=9", "data.source.findings=[pacemaker]")
    parts = split(Rows(rows(300)), share(0.1), synthetic=instantiate(cfg.data.source, _convert_="all"))
    assert {e.provenance for e in parts.examples["train"]} == {None, "PhantomSource"}


names = st.frozensets(st.sampled_from("abcde"), min_size=1)


@given(st.lists(names, max_size=60), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_stratified_splits_assign_every_group_whatever_the_order(found: list[frozenset[str]], seed: int) -> None:
    groups = {f"g{number}": findings for number, findings in enumerate(found)}
    split_of = stratify(groups, SHARES, seed)
    assert split_of.keys() == groups.keys()
    assert set(split_of.values()) <= SHARES.keys()
    assert stratify(dict(reversed(groups.items())), SHARES, seed) == split_of


def test_stratification_gives_rare_findings_their_share() -> None:
    rng = np.random.default_rng(0)
    table = pd.concat([rows(4000, "a"), rows(40, "b", finding="mass"), rows(10, "c", finding="goiter")]).reset_index(
        drop=True
    )
    table["PatientID"] = [f"p{number}" for number in rng.permutation(len(table))]
    from xrayexp.data.examples import read_findings

    table["findings"] = read_findings(table)
    by_method = {
        method: split_balance(table["findings"], assign_splits(table, SHARES, 0, method), SHARES).set_index("finding")
        for method in ("hash", STRATIFIED)
    }
    even = by_method[STRATIFIED]
    assert list(even.loc["goiter", list(SHARES)]) == [8, 1, 1]
    assert list(even.loc["mass", list(SHARES)]) == [32, 4, 4]
    assert even["imbalance"].max() < 0.001
    assert by_method["hash"]["imbalance"].max() > 0.02
    check_no_leakage(table, assign_splits(table, SHARES, 0, STRATIFIED))


def test_the_balance_counts_images_once_per_finding() -> None:
    from xrayexp.data.report import Finding

    found = pd.Series([(Finding("a", ("left",)), Finding("a", ("right",))), (Finding("a"), Finding("b"))], dtype=object)
    where = pd.Series(["train", "test"])
    balance = split_balance(found, where, SHARES).set_index("finding")
    assert list(balance.loc["a", ["images", "train", "validation", "test"]]) == [2, 1, 0, 1]
    assert balance.loc["a", "imbalance"] == pytest.approx(0.4)
    assert balance.loc["b", "images"] == 1
