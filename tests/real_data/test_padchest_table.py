"""PadChest's real label table: the counts that were measured on it by hand, and every report of it.

The table is the one that the PyPI wheel torchxrayvision 1.5.7 ships; only the file is taken out of the wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from xrayexp.data.examples import examples_from_table
from xrayexp.data.label_file import LABEL_FILES, find_label_file, read_labels
from xrayexp.data.labels import RNN_MODEL, parse_sentences
from xrayexp.data.padchest import PadChestSource
from xrayexp.data.report import ReportError, parse_report, write_report
from xrayexp.data.splits import assign_splits, check_no_leakage

pytestmark = pytest.mark.real_data

WHEEL = "torchxrayvision==1.5.7"
LABELS = LABEL_FILES[1]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the label file: XRAYEXP_PADCHEST_LABELS, or taken from the wheel."""
    if given := os.environ.get("XRAYEXP_PADCHEST_LABELS"):
        return Path(given)
    folder = tmp_path_factory.mktemp("padchest")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"pip cannot get {WHEEL}, which holds PadChest's label file")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        (folder / LABELS).write_bytes(wheel.read(f"torchxrayvision/data/{LABELS}"))
    return folder


@pytest.fixture(scope="session")
def labels(root: Path) -> pd.DataFrame:
    return read_labels(find_label_file(root), None)


def test_counts(labels: pd.DataFrame) -> None:
    assert len(labels) == 160_861
    assert labels["group"].nunique() == 66_504
    assert labels["status"].value_counts().to_dict() == {
        "usable": 153_125,
        "unchanged": 3_705,
        "suboptimal": 1_839,
        "excluded": 1_312,
        "unlabelled": 880,
    }  # fmt: skip  (880: 103 rows without labels and 777 with '' alone)
    assert int((labels["age"] < 16).sum()) == 6_060 + int(((labels["age"] < 16) & (labels["Pediatric"] == "PED")).sum())
    assert int(labels["age"].isna().sum()) == 6
    assert labels["PatientID"].str.len().max() == 39


def test_funnel(root: Path, tmp_path: Path) -> None:
    funnel = PadChestSource(str(root), min_age=18, cache_dir=str(tmp_path)).funnel
    steps = dict(funnel)
    assert steps["not suboptimal"] == 107_586
    assert steps["not only 'unchanged'"] == 105_014 == 107_586 - 2_572
    assert 98_000 < steps["18 years or older"] < 105_014


def test_sentences_are_rebuilt(root: Path) -> None:
    """A leading blank continues a sentence: so read, nearly every row has as many sentences as its report."""
    table = pd.read_csv(root / LABELS, dtype=str, usecols=["Report", "MethodLabel", "LabelsLocalizationsBySentence"])
    rows = table[(table["MethodLabel"] == RNN_MODEL) & table.notna().all(axis="columns")]
    written = rows["Report"].map(lambda report: sum(bool(part.strip()) for part in report.split(".")))
    rebuilt = rows["LabelsLocalizationsBySentence"].map(lambda text: len(parse_sentences(text, RNN_MODEL)))
    assert len(rows) == 121_705
    assert int((written == rebuilt).sum()) == 121_663  # 99.97 %


def test_every_row_that_can_be_reported_comes_back_from_its_report(labels: pd.DataFrame) -> None:
    counts: Counter[bool] = Counter()
    known: dict[object, bool] = {}
    for image, findings in zip(labels["ImageID"], labels["findings"], strict=True):
        if findings:
            if findings not in known:
                report = parse_report(write_report(findings))
                known[findings] = report is not None and report.findings == findings
            assert known[findings], image
        counts[bool(findings)] += 1
    assert counts[True] + counts[False] == 160_861
    assert set(labels["status"][[bool(findings) for findings in labels["findings"]]]) >= {"usable"}
    with pytest.raises(ReportError, match="at least one finding"):
        write_report(())


def test_every_usable_row_has_something_to_report(labels: pd.DataFrame) -> None:
    usable = labels[labels["status"] == "usable"]
    assert len(examples_from_table(usable)) == len(usable)


def test_nothing_crosses_the_splits(labels: pd.DataFrame) -> None:
    split = assign_splits(labels, {"train": 0.9, "validation": 0.05, "test": 0.05}, seed=0)
    check_no_leakage(labels, split)
    shares = split.groupby(labels["group"]).first().value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.9, abs=0.005)
