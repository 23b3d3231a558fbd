"""PadChest's real label table: the counts that were measured on it by hand, and every report of it.

The table is the one that the PyPI wheel torchxrayvision 1.5.7 ships; only the file is taken out of the wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from xrayexp.data.examples import examples_from_table
from xrayexp.data.label_file import LABEL_FILES, find_label_file, read_labels
from xrayexp.data.labels import NORMAL, PHYSICIAN, RNN_MODEL, STATUSES, parse_cuis, parse_labels, parse_sentences
from xrayexp.data.padchest import FRONTAL, PadChestSource
from xrayexp.data.report import Finding, ReportError, parse_report, write_report
from xrayexp.data.splits import assign_splits, check_no_leakage
from xrayexp.errors import DataError

pytestmark = pytest.mark.real_data

WHEEL = "torchxrayvision==1.5.7"
LABELS = LABEL_FILES[1]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the label file: XRAYEXP_PADCHEST_LABELS, or taken from the wheel."""
    if given := os.environ.get("XRAYEXP_PADCHEST_LABELS"):
        return Path(given)
    folder = tmp_path_factory.mktemp("padchest")
    pip = [sys.executable, "-m", "pip", "--retries", "1", "--timeout", "20"]
    command = [*pip, "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"pip cannot get {WHEEL}, which holds PadChest's label file")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        (folder / LABELS).write_bytes(wheel.read(f"torchxrayvision/data/{LABELS}"))
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def labels(root: Path, cache: Path) -> pd.DataFrame:
    return read_labels(find_label_file(root), cache)


@pytest.fixture(scope="session")
def text(root: Path) -> pd.DataFrame:
    """The file's own columns."""
    wanted = [
        "ImageID",
        "Report",
        "MethodLabel",
        "Labels",
        "Localizations",
        "LabelsLocalizationsBySentence",
        "labelCUIS",
    ]
    return pd.read_csv(root / LABELS, dtype=str, usecols=wanted)


def stated(text: pd.DataFrame) -> list[tuple[str, ...]]:
    """The labels of every row."""
    return [parse_labels(labels) if isinstance(labels, str) else () for labels in text["Labels"]]


def test_counts(labels: pd.DataFrame) -> None:
    assert len(labels) == 160_861
    assert labels["PatientID"].nunique() == 67_625
    assert labels["StudyID"].nunique() == 109_931
    assert labels["ReportID"].nunique() == 107_783
    assert labels["group"].nunique() == 66_504
    assert labels["Projection"].value_counts().to_dict() == {
        "PA": 91_728, "L": 49_579, "AP_horizontal": 14_346, "AP": 4_559, "COSTAL": 630, "EXCLUDE": 11, "UNK": 8,
    }  # fmt: skip
    assert labels["MethodLabel"].value_counts().to_dict() == {"RNN_model": 121_808, "Physician": 39_053}
    assert labels["PatientID"].str.len().max() == 39


def test_statuses(labels: pd.DataFrame, text: pd.DataFrame) -> None:
    assert labels["status"].value_counts().to_dict() == {
        "usable": 153_125,
        "unchanged": 3_705,
        "suboptimal": 1_839,
        "excluded": 1_312,
        "unlabelled": 880,  # 103 rows without labels and 777 with '' alone
    }
    rows = stated(text)
    counts = {
        label: (sum(label in row for row in rows), sum(row == (label,) for row in rows))
        for label in (NORMAL, *STATUSES)
    }
    assert counts == {
        "normal": (50_616, 50_616 - 226),
        "exclude": (1_312, 1_284),
        "suboptimal study": (1_839, 412),
        "unchanged": (14_334, 3_705),
    }
    assert len({label for row in rows for label in row}) == 193


def test_ages(labels: pd.DataFrame) -> None:
    young, flagged = labels["age"] < 16, labels["Pediatric"] == "PED"
    assert int(flagged.sum()) == 274
    assert int((young & ~flagged).sum()) == 6_060
    assert int(labels["age"].isna().sum()) == 6


def test_funnel(root: Path, labels: pd.DataFrame, cache: Path) -> None:
    source = PadChestSource(str(root), min_age=18, cache_dir=str(cache))
    assert [rows for _, rows in source.funnel] == [
        160_861, 110_633, 110_633, 110_043, 109_070, 107_586, 107_586 - 2_572, 99_782,
    ]  # fmt: skip
    usable = labels[labels["Projection"].isin(FRONTAL) & labels["status"].isin(["usable", "unchanged"])]
    assert len(usable) == 107_586
    assert usable["PatientID"].nunique() == 66_004
    assert int((usable["MethodLabel"] == PHYSICIAN).sum()) == 25_940


def test_the_index_equals_the_parse(root: Path, labels: pd.DataFrame, cache: Path) -> None:
    assert list(cache.glob("*.parquet"))
    pd.testing.assert_frame_equal(read_labels(find_label_file(root), cache), labels)


def test_sentences_are_rebuilt(text: pd.DataFrame) -> None:
    """A leading blank continues a sentence: so read, nearly every row has as many sentences as its report."""
    both = text[["Report", "LabelsLocalizationsBySentence"]].notna().all(axis="columns")
    rows = text[(text["MethodLabel"] == RNN_MODEL) & both]
    written = rows["Report"].map(lambda report: sum(bool(part.strip()) for part in report.split(".")))
    rebuilt = rows["LabelsLocalizationsBySentence"].map(lambda text: len(parse_sentences(text, RNN_MODEL)))
    assert len(rows) == 121_705
    assert int((written == rebuilt).sum()) == 121_663  # 99.97 %


def test_cuis_are_read_by_pattern(text: pd.DataFrame) -> None:
    cells = text["labelCUIS"].dropna()
    assert len(cells) == 160_758
    assert int(cells.str.contains("\n").sum()) == 1_486
    assert [parse_cuis(cell) for cell in cells] == cells.str.findall("'(C[^']*)'").map(tuple).to_list()


def test_locations_are_those_of_sentences_with_a_finding(text: pd.DataFrame, labels: pd.DataFrame) -> None:
    """The column `Localizations` names healthy structures too."""
    places = [{place for finding in findings for place in finding.locations} for findings in labels["findings"]]
    assert len(set().union(*places)) <= 104 + 2  # and the sides that stand inside labels
    everything = text["Localizations"].fillna("").str.findall("'loc ([^']*)'")
    healthy = [
        bool(set(named) - here)
        for named, here, findings in zip(everything, places, labels["findings"], strict=True)
        if findings and findings != (Finding(NORMAL),)
    ]
    assert sum(healthy) == 9_719
    alone = [row == (NORMAL,) and bool(named) for row, named in zip(stated(text), everything, strict=True)]
    assert sum(alone) == 4_684
    assert not any(set().union(*(places[number] for number, sole in enumerate(alone) if sole)))


def test_findings_agree_with_labels(text: pd.DataFrame, labels: pd.DataFrame) -> None:
    """In every row that can be reported, though they are read from another column."""
    usable = labels["status"] == "usable"
    differ = [
        image
        for image, row, findings, taken in zip(text["ImageID"], stated(text), labels["findings"], usable, strict=True)
        if taken and {finding.name for finding in findings} != (set(row) - STATUSES - {NORMAL} or {NORMAL})
    ]
    assert len(differ) == 0


def test_every_row_with_a_finding_or_normal_comes_back_from_its_report(labels: pd.DataFrame) -> None:
    reported = labels["findings"][[bool(findings) for findings in labels["findings"]]]
    assert len(reported) == 156_877
    lost = [
        findings
        for findings in set(reported)
        if (back := parse_report(write_report(findings))) is None or back.findings != findings
    ]
    assert lost == []


def test_the_writer_refuses_the_others_by_name(text: pd.DataFrame, labels: pd.DataFrame) -> None:
    others = [not findings for findings in labels["findings"]]
    assert sum(others) == 160_861 - 156_877
    for sentences, method in set(
        zip(text["LabelsLocalizationsBySentence"][others], text["MethodLabel"][others], strict=True)
    ):
        read = parse_sentences(sentences, method) if isinstance(sentences, str) else ()
        statuses = [label for sentence in read for label in sentence.labels]
        with pytest.raises(ReportError, match=f"'{statuses[0]}' is a status" if statuses else "at least one finding"):
            write_report([Finding(label) for label in statuses])
    with pytest.raises(DataError, match=f"3984 images have no finding to report: {labels['ImageID'][others].iloc[0]}"):
        examples_from_table(labels[others])


def test_every_usable_row_has_something_to_report(labels: pd.DataFrame) -> None:
    usable = labels[labels["status"] == "usable"]
    assert len(examples_from_table(usable)) == len(usable)


def test_nothing_crosses_the_splits(labels: pd.DataFrame) -> None:
    split = assign_splits(labels, {"train": 0.9, "validation": 0.05, "test": 0.05}, seed=0)
    check_no_leakage(labels, split)
    shares = split.groupby(labels["group"]).first().value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.9, abs=0.005)
    shuffled = labels.sample(frac=1, random_state=0)
    again = assign_splits(shuffled, {"train": 0.9, "validation": 0.05, "test": 0.05}, seed=0)
    pd.testing.assert_series_equal(again.loc[labels.index], split)
