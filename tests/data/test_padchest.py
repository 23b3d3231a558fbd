"""The PadChest reader, on rows of PadChest's exact column shape. All rows are invented."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayexp.data.examples import examples_from_table
from xrayexp.data.padchest import LABEL_FILES, PadChestSource
from xrayexp.data.report import Finding, parse_report, write_report
from xrayexp.data.splits import assign_splits, check_no_leakage
from xrayexp.errors import ConfigError, DataError

# What every row holds unless it says otherwise, in the file's column order. 'None' is PadChest's own string,
# and the CUI columns are numpy reprs that span lines.
DEFAULTS = {
    "Unnamed: 0": "0",
    "ImageID": "",
    "ImageDir": "0",
    "StudyDate_DICOM": "20120304",
    "StudyID": "",
    "PatientID": "",
    "PatientBirth": "1950.0",
    "PatientSex_DICOM": "F",
    "ViewPosition_DICOM": "POSTEROANTERIOR",
    "Projection": "PA",
    "MethodProjection": "Manual review of DICOM fields",
    "Pediatric": "No",
    "Modality_DICOM": "CR",
    "Manufacturer_DICOM": "ImagingDynamicsCompanyLtd",
    "PhotometricInterpretation_DICOM": "MONOCHROME2",
    "PixelRepresentation_DICOM": "0",
    "PixelAspectRatio_DICOM": "",
    "SpatialResolution_DICOM": "None",
    "BitsStored_DICOM": "12",
    "WindowCenter_DICOM": "None",
    "WindowWidth_DICOM": "None",
    "Rows_DICOM": "2000",
    "Columns_DICOM": "2000",
    "XRayTubeCurrent_DICOM": "250",
    "Exposure_DICOM": "None",
    "ExposureInuAs_DICOM": "2500",
    "ExposureTime": "10",
    "RelativeXRayExposure_DICOM": "-1.4",
    "ReportID": "",
    "Report": "sin hallazg .",
    "MethodLabel": "Physician",
    "Labels": "",
    "Localizations": "[]",
    "LabelsLocalizationsBySentence": "",
    "labelCUIS": "['C0000001'\n 'C0000002']",
    "LocalizationsCUIS": "[]",
}
RNN = {"MethodLabel": "RNN_model"}
NORMAL = (Finding("normal"),)


class Row(NamedTuple):
    """An image, its label columns, and the findings to be reported; None where the image is not usable."""

    image: str
    labels: str
    sentences: str
    expected: tuple[Finding, ...] | None
    other: dict[str, str] | None = None


ROWS = [
    Row("healthy", "['normal']", "[['normal'], ['normal', 'loc cardiac']]", NORMAL),
    Row("rnn_healthy", "['normal']", "['normal', 'loc costophrenic angle']", NORMAL, RNN),
    Row(
        "places_by_sentence",
        "['pleural effusion', 'cardiomegaly', 'kyphosis']",
        "[['pleural effusion', 'loc left', 'loc pleural'], ['cardiomegaly', 'loc cardiac'], ['kyphosis']]",
        (
            Finding("pleural effusion", ("left", "pleural")),
            Finding("cardiomegaly", ("cardiac",)),
            Finding("kyphosis"),
        ),
    ),
    Row(
        "leading_blanks",
        "['consolidation', ' pneumonia', 'kyphosis']",
        "['consolidation', ' pneumonia', 'loc middle lobe', 'exclude', '', 'loc rib', 'kyphosis']",
        (
            Finding("consolidation", ("middle lobe",)),
            Finding("pneumonia", ("middle lobe",)),
            Finding("kyphosis"),
        ),
        RNN,
    ),
    Row(
        "bare_nan",
        "['infiltrates']",
        "[nan, ['infiltrates', 'loc right']]",
        (Finding("infiltrates", ("right",)),),
    ),
    Row("upper_case", "['COPD signs']", "[['COPD signs'], [], ['exclude']]", (Finding("copd signs"),)),
    Row(
        "loculated",
        "['loculated pleural effusion']",
        "['loculated pleural effusion', 'loc pleural']",
        (Finding("loculated pleural effusion", ("pleural",)),),
        RNN,
    ),
    Row(
        "sided_label",
        "['hemidiaphragm elevation']",
        "['hemidiaphragm elevation left side', 'loc diaphragm']",
        (Finding("hemidiaphragm elevation", ("diaphragm", "left")),),
        RNN,
    ),
    Row(
        "two_places",
        "['nodule']",
        "[['nodule', 'loc left'], ['nodule', 'loc right']]",
        (Finding("nodule", ("left",)), Finding("nodule", ("right",))),
    ),
    Row("normal_and_more", "['normal', 'goiter']", "[['normal'], ['goiter']]", (Finding("goiter"),)),
    Row("unchanged_too", "['unchanged', 'goiter']", "[['unchanged'], ['goiter']]", (Finding("goiter"),)),
    Row("empty_label_too", "['', 'goiter']", "['', 'loc left', 'goiter']", (Finding("goiter"),), RNN),
    Row("lying", "['nsg tube']", "[['NSG tube']]", (Finding("nsg tube"),), {"Projection": "AP_horizontal"}),
    Row("standing", "['nsg tube']", "[['NSG tube']]", (Finding("nsg tube"),), {"Projection": "AP"}),
    Row("no_report_text", "['normal']", "[['normal']]", NORMAL, {"Report": "", "PatientBirth": ""}),
    Row("same_report", "['goiter']", "[['goiter']]", (Finding("goiter"),), {"ReportID": "1001"}),
    Row("lateral", "['goiter']", "[['goiter']]", None, {"Projection": "L"}),
    Row("ribs", "['goiter']", "[['goiter']]", None, {"Projection": "COSTAL"}),
    Row("unknown_view", "['goiter']", "[['goiter']]", None, {"Projection": "UNK"}),
    Row("excluded_view", "['goiter']", "[['goiter']]", None, {"Projection": "EXCLUDE"}),
    Row("unlabelled", "", "", None, RNN),
    Row("empty_label", "['']", "['', 'loc left']", None, RNN),
    Row("excluded", "['exclude']", "[['exclude']]", None),
    Row("excluded_too", "['exclude', 'goiter']", "[['exclude'], ['goiter']]", None),
    Row("suboptimal", "['suboptimal study', 'goiter']", "['suboptimal study', ' goiter']", None, RNN),
    Row("only_unchanged", "['unchanged', '']", "['unchanged', '', 'normal']", None, RNN),
]
USABLE = [row for row in ROWS if row.expected is not None]


def padchest_table() -> pd.DataFrame:
    """ROWS as the label file holds them, one patient and study each, with PatientIDs of 39 digits."""
    records = []
    for number, row in enumerate(ROWS):
        identity = {
            "Unnamed: 0": str(number),
            "ImageID": f"{row.image}_{number:02d}-014-084.png",
            "StudyID": f"{10**38 + number}-2",
            "PatientID": str(10**38 + number),
            "ReportID": str(1000 + number),
            "Labels": row.labels,
            "LabelsLocalizationsBySentence": row.sentences,
        }
        records.append(DEFAULTS | identity | (row.other or {}))
    return pd.DataFrame(records, columns=list(DEFAULTS)).rename(columns={"Unnamed: 0": ""})


def write_labels(root: Path, table: pd.DataFrame, name: str = LABEL_FILES[0]) -> None:
    table.to_csv(root / name, index=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_labels(tmp_path, padchest_table())
    return tmp_path


def image_id(name: str) -> str:
    (found,) = (number for number, row in enumerate(ROWS) if row.image == name)
    return f"{name}_{found:02d}-014-084.png"


def test_the_file_has_padchests_shape(root: Path) -> None:
    table = pd.read_csv(root / LABEL_FILES[0], dtype=str)
    assert table.shape == (26, 36)
    assert table.columns[0] == "Unnamed: 0"


def test_usable_rows_and_their_findings(root: Path) -> None:
    examples = examples_from_table(PadChestSource(str(root)).table())
    assert [example.image_id for example in examples] == [image_id(row.image) for row in USABLE]
    assert [example.findings for example in examples] == [row.expected for row in USABLE]


def test_every_usable_row_has_a_report(root: Path) -> None:
    for example in examples_from_table(PadChestSource(str(root)).table()):
        report = parse_report(write_report(example.findings))
        assert report is not None
        assert report.findings == example.findings


def test_funnel(root: Path) -> None:
    source = PadChestSource(str(root))
    assert source.funnel == [
        (f"rows of {LABEL_FILES[0]}", 26),
        ("projection PA, AP, AP_horizontal", 22),
        ("labels by Physician, RNN_model", 22),
        ("with a label", 20),
        ("not excluded", 18),
        ("not suboptimal", 17),
        ("not only 'unchanged'", 16),
    ]
    assert len(source.table()) == 16


def test_identifiers_stay_text(root: Path) -> None:
    table = PadChestSource(str(root)).table()
    assert table["PatientID"].iloc[0] == "1" + "0" * 38
    assert table["StudyID"].iloc[0].endswith("-2")
    assert table["ImageDir"].iloc[0] == "0"


def test_projections_and_label_methods_are_chosen(root: Path) -> None:
    lying = PadChestSource(str(root), projections=["AP_horizontal"])
    assert lying.table()["ImageID"].tolist() == [image_id("lying")]
    predicted = PadChestSource(str(root), labels=["RNN_model"]).table()
    expected = [row.image for row in USABLE if row.other == RNN]
    assert predicted["ImageID"].tolist() == [image_id(name) for name in expected]


def test_a_report_shared_by_two_patients_stays_in_one_split(root: Path) -> None:
    table = PadChestSource(str(root)).table().set_index("ImageID")
    for seed in range(20):
        split = assign_splits(table, {"train": 0.5, "test": 0.5}, seed)
        check_no_leakage(table, split)
        assert split[image_id("same_report")] == split[image_id("rnn_healthy")]


def test_compressed_label_file(tmp_path: Path) -> None:
    write_labels(tmp_path, padchest_table(), LABEL_FILES[1])
    assert (tmp_path / LABEL_FILES[1]).read_bytes()[:2] == b"\x1f\x8b"
    assert len(PadChestSource(str(tmp_path)).table()) == 16


@pytest.mark.parametrize("folder", ["0", "."])
def test_images_lie_in_their_folder_or_flat(root: Path, folder: str) -> None:
    name = image_id("healthy")
    (root / folder).mkdir(exist_ok=True)
    ramp = np.arange(0, 4096, 16, dtype=np.uint16).reshape(8, 32)  # 12 bits in a 16-bit file
    Image.fromarray(ramp).save(root / folder / name)
    image = PadChestSource(str(root)).image(name)
    assert image.shape == (8, 32)
    assert image.dtype == np.uint8
    assert 125 < image.mean() < 130


def test_missing_broken_and_unselected_images_are_named(root: Path) -> None:
    source = PadChestSource(str(root))
    name = image_id("healthy")
    with pytest.raises(DataError, match=f"{name}: no such file"):
        source.image(name)
    (root / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=name):
        source.image(name)
    with pytest.raises(DataError, match="lateral"):
        source.image(image_id("lateral"))


@pytest.mark.parametrize(
    "column, value",
    [
        ("ImageID", "../secret.png"),
        ("ImageID", "/etc/secret.png"),
        ("ImageID", ".."),
        ("ImageID", "..\\secret.png"),
        ("ImageDir", ".."),
        ("ImageDir", "/etc"),
        ("ImageDir", "0/../.."),
    ],
)
def test_names_that_leave_the_root_are_refused(tmp_path: Path, column: str, value: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "secret.png")
    table = padchest_table().iloc[:1]
    table = table.assign(ImageID="secret.png") if column == "ImageDir" else table
    write_labels(root, table.assign(**{column: value}))
    source = PadChestSource(str(root))
    with pytest.raises(DataError, match="not a plain file name"):
        source.image(source.table()["ImageID"].iloc[0])


def test_no_folder() -> None:
    with pytest.raises(DataError, match=r"data\.root"):
        PadChestSource(None).table()


def test_missing_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        PadChestSource(str(tmp_path / "absent")).table()
    with pytest.raises(DataError, match=LABEL_FILES[1]):
        PadChestSource(str(tmp_path)).table()


def test_missing_columns_are_named(tmp_path: Path) -> None:
    write_labels(tmp_path, padchest_table().drop(columns=["ReportID", "Labels"]))
    with pytest.raises(DataError, match="ReportID, Labels"):
        PadChestSource(str(tmp_path)).table()


@pytest.mark.parametrize("column", ["ImageID", "PatientID", "StudyID", "ImageDir"])
def test_missing_identifiers_are_counted(tmp_path: Path, column: str) -> None:
    table = padchest_table()
    table.loc[[1, 2], column] = ""
    write_labels(tmp_path, table)
    with pytest.raises(DataError, match=f"2 rows have no {column}"):
        PadChestSource(str(tmp_path)).table()


def test_repeated_images_are_named(tmp_path: Path) -> None:
    table = padchest_table()
    write_labels(tmp_path, pd.concat([table, table.iloc[:1]]))
    with pytest.raises(DataError, match=image_id("healthy")):
        PadChestSource(str(tmp_path)).table()


def test_no_usable_row_shows_the_funnel(tmp_path: Path) -> None:
    table = padchest_table()
    write_labels(tmp_path, table[table["Projection"] == "L"])
    with pytest.raises(DataError, match=r"no row is left(.|\n)*1 rows of(.|\n)*0 projection"):
        PadChestSource(str(tmp_path)).table()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'ImageID\n"', gzip.compress(b"x" * 999)[:-9]])
def test_broken_label_files_are_named(tmp_path: Path, content: bytes) -> None:
    name = LABEL_FILES[1] if content[:2] == b"\x1f\x8b" else LABEL_FILES[0]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        PadChestSource(str(tmp_path)).table()


def test_a_compressed_file_cut_off_is_refused(tmp_path: Path) -> None:
    write_labels(tmp_path, padchest_table(), LABEL_FILES[1])
    path = tmp_path / LABEL_FILES[1]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as a label file"):
        PadChestSource(str(tmp_path)).table()


def test_unknown_choices_are_all_reported() -> None:
    with pytest.raises(ConfigError, match=r"projections.*'lateral'(.|\n)*labels: choose at least one"):
        PadChestSource("anywhere", projections=["PA", "lateral"], labels=[])
