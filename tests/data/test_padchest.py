"""The PadChest reader, on docs/padchest_sample.csv: 100 invented rows of PadChest's exact shape, with all its traps."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayexp.data.examples import examples_from_table
from xrayexp.data.label_file import LABEL_FILES, read_labels
from xrayexp.data.padchest import PadChestSource
from xrayexp.data.report import Finding, parse_report, write_report
from xrayexp.data.splits import assign_splits, check_no_leakage
from xrayexp.errors import ConfigError, DataError

SAMPLE = Path(__file__).parents[2] / "docs" / "padchest_sample.csv"
EXPECTED: dict[str, list[list[str]] | None] = json.loads(
    Path(__file__).with_name("padchest_sample_expected.json").read_text()
)
USABLE = {image: findings for image, findings in EXPECTED.items() if findings is not None}


def padchest_table() -> pd.DataFrame:
    return pd.read_csv(SAMPLE, dtype=str, keep_default_na=False).rename(columns={"Unnamed: 0": ""})


def write_labels(root: Path, table: pd.DataFrame, name: str = LABEL_FILES[0]) -> None:
    table.to_csv(root / name, index=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_labels(tmp_path, padchest_table())
    return tmp_path


def image_id(name: str) -> str:
    (found,) = (image for image in EXPECTED if image.startswith(f"{name}_") and image[len(name) + 1].isdigit())
    return found


def names(table: pd.DataFrame) -> set[str]:
    return {image.rpartition("_")[0] for image in table["ImageID"]}


def test_the_sample_has_padchests_shape() -> None:
    table = pd.read_csv(SAMPLE, dtype=str)
    assert table.shape == (100, 36)
    assert table.columns[0] == "Unnamed: 0"
    assert set(table["ImageID"]) == set(EXPECTED)
    assert table["PatientID"].str.len().max() == 39
    assert table["StudyID"].str.contains("[-_]2$").any()
    assert table["labelCUIS"].str.contains("\n").any()


def test_usable_rows_and_their_findings(root: Path) -> None:
    examples = examples_from_table(PadChestSource(str(root)).table())
    assert {e.image_id: [[f.name, *f.locations] for f in e.findings] for e in examples} == USABLE


def test_every_usable_row_has_a_report(root: Path) -> None:
    for example in examples_from_table(PadChestSource(str(root)).table()):
        report = parse_report(write_report(example.findings))
        assert report is not None
        assert report.findings == example.findings


def test_funnel(root: Path) -> None:
    assert PadChestSource(str(root), min_age=18, min_studies=2).funnel == [
        (f"rows of {LABEL_FILES[0]}", 100),
        ("projection PA, AP, AP_horizontal", 92),
        ("labels by Physician, RNN_model", 92),
        ("with a label", 87),
        ("not excluded", 84),
        ("not suboptimal", 81),
        ("not only 'unchanged'", 79),
        ("18 years or older", 72),
        ("without findings of fewer than 2 studies (30 of them)", 42),
    ]


def test_adults_are_told_by_arithmetic_and_by_the_flag(root: Path) -> None:
    everyone, adults = PadChestSource(str(root)).table(), PadChestSource(str(root), min_age=18).table()
    assert names(everyone) - names(adults) == {
        "child_flagged", "child_unflagged", "infant_unflagged", "seventeen", "adult_flagged", "age_unknown",
        "no_report_text",
    }  # fmt: skip
    assert "eighteen" in names(adults)


def test_a_broader_name_for_rare_findings(root: Path) -> None:
    (root / "tree.csv").write_text("label,parent\nmultiple nodules,Nodule\npseudonodule,nodule\n")
    source = PadChestSource(str(root), min_studies=2, hierarchy=str(root / "tree.csv"))
    findings = {e.image_id: e.findings for e in examples_from_table(source.table())}
    assert findings[image_id("multiple_nodules")] == (Finding("nodule", ("bilateral",)),)
    assert image_id("granuloma") not in findings
    assert image_id("nodule") in findings


@pytest.mark.parametrize("form", ["lines", "csv"])
def test_who_is_connected_to_an_excluded_identifier_is_left_out(root: Path, form: str) -> None:
    """By the lateral image of a study, which is not selected itself, or by a report under another patient."""
    listed = [image_id("lateral_too"), image_id("atelectasis")]
    path = root / "held_out"
    path.write_text("\n".join([*(["other,ImageID"] if form == "csv" else []),
                              *(f"x,{i}" if form == "csv" else i for i in listed)]))  # fmt: skip
    source = PadChestSource(str(root), exclude=str(path))
    assert source.funnel[1] == ("not connected to held_out", 96)
    gone = {"effusion_two_sides", "atelectasis", "laminar"}
    assert names(PadChestSource(str(root)).table()) - names(source.table()) == gone


def test_an_exclusion_list_that_names_nobody_is_refused(root: Path) -> None:
    """Going on would train on whom the list was to keep apart."""
    (root / "held_out").write_text("PatientID;StudyID\nnobody;nothing\n")
    with pytest.raises(DataError, match=r"none of its 2 identifiers is in the label file.*one identifier a line"):
        PadChestSource(str(root), exclude=str(root / "held_out")).table()


@pytest.mark.parametrize("header", ['"ImageID","note"', "\ufeffImageID,note", " ImageID , note "])
def test_the_header_of_an_exclusion_list_may_be_quoted(root: Path, header: str) -> None:
    path = root / "held_out.csv"
    path.write_text(f'{header}\n{image_id("nodule")},"a, b"\n', encoding="utf-8")
    source = PadChestSource(str(root), exclude=str(path))
    assert names(PadChestSource(str(root)).table()) - names(source.table()) == {"nodule", "granuloma"}


def test_a_broken_exclusion_list_is_named(root: Path) -> None:
    for content in (b'ImageID\n"', b"ImageID\na,b\nc,d,e,f\n", b"\xff\xfe\x00"):
        (root / "held_out").write_bytes(content)
        with pytest.raises(DataError, match="held_out: cannot be read as a list of identifiers"):
            PadChestSource(str(root), exclude=str(root / "held_out")).table()


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_exclusion_list_is_refused(root: Path, content: str) -> None:
    (root / "held_out").write_text(content)
    with pytest.raises(DataError, match="holds no identifier"):
        PadChestSource(str(root), exclude=str(root / "held_out")).table()


def test_missing_files_of_the_selection_are_named(root: Path) -> None:
    for source in (PadChestSource(str(root), exclude="absent"), PadChestSource(str(root), hierarchy="absent")):
        with pytest.raises(DataError, match="absent"):
            source.table()


def test_identifiers_stay_text(root: Path) -> None:
    table = PadChestSource(str(root)).table()
    assert table["PatientID"].iloc[0] == "1" + "0" * 38
    assert table["ImageDir"].iloc[0] == "0"


def test_projections_and_label_methods_are_chosen(root: Path) -> None:
    lying = PadChestSource(str(root), projections=["AP_horizontal"])
    assert names(lying.table()) == {"lying", "lying_again", "bed"}
    predicted = PadChestSource(str(root), labels=["RNN_model"]).table()
    assert set(predicted["MethodLabel"]) == {"RNN_model"}
    table = padchest_table()
    by_network = set(table["ImageID"][table["MethodLabel"] == "RNN_model"])
    assert set(predicted["ImageID"]) == by_network & USABLE.keys()


def test_a_report_shared_by_two_patients_stays_in_one_split(root: Path) -> None:
    table = PadChestSource(str(root)).table().set_index("ImageID")
    for seed in range(20):
        split = assign_splits(table, {"train": 0.5, "test": 0.5}, seed)
        check_no_leakage(table, split)
        assert split[image_id("laminar")] == split[image_id("atelectasis")]


def test_compressed_label_file(tmp_path: Path) -> None:
    write_labels(tmp_path, padchest_table(), LABEL_FILES[1])
    assert (tmp_path / LABEL_FILES[1]).read_bytes()[:2] == b"\x1f\x8b"
    assert len(PadChestSource(str(tmp_path)).table()) == len(USABLE)


def test_what_is_kept_equals_what_is_parsed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = root / LABEL_FILES[0], tmp_path / "cache"
    parsed = read_labels(path, None)
    pd.testing.assert_frame_equal(read_labels(path, cache), parsed)
    with monkeypatch.context() as patch:
        patch.setattr("xrayexp.data.label_file._parse", None)  # not parsed again
        pd.testing.assert_frame_equal(read_labels(path, cache), parsed)
    write_labels(root, padchest_table().iloc[:50])
    assert len(read_labels(path, cache)) == 50
    assert len(list(cache.iterdir())) == 2


def test_what_was_kept_and_is_broken_is_made_again(root: Path, tmp_path: Path) -> None:
    """As after a power cut."""
    path, cache = root / LABEL_FILES[0], tmp_path / "cache"
    parsed = read_labels(path, cache)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\0" * len(whole)):
        kept.write_bytes(content)
        pd.testing.assert_frame_equal(read_labels(path, cache), parsed)
        assert len(kept.read_bytes()) > len(whole) / 2


def test_a_cache_that_cannot_be_written_is_said(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert len(read_labels(root / LABEL_FILES[0], tmp_path / "file" / "cache")) == 100
    assert "set data.cache_dir" in caplog.text


@pytest.mark.parametrize("folder", ["0", "."])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg"])
def test_images_lie_in_their_folder_or_flat_and_mirrors_may_be_jpeg(root: Path, folder: str, ending: str) -> None:
    name = image_id("healthy")
    (root / folder).mkdir(exist_ok=True)
    ramp = np.arange(0, 4096, 16, dtype=np.uint16).reshape(8, 32)  # 12 bits in a 16-bit file
    stored = ramp if ending == ".png" else (ramp // 16).astype(np.uint8)
    Image.fromarray(stored).save(root / folder / name.replace(".png", ending))
    source = PadChestSource(str(root))
    image = source.image(name)
    assert image.shape == (8, 32)
    assert image.dtype == np.uint8
    assert 125 < image.mean() < 130
    assert source.absent([name, image_id("goiter")]).keys() == {image_id("goiter")}


def test_the_original_is_read_where_there_is_a_mirror_beside_it(root: Path) -> None:
    name = image_id("healthy")
    (root / "0").mkdir()
    for place, grey in ((Path("0", name), 1), (Path(name), 2), (Path("0", name.replace(".png", ".jpg")), 3)):
        Image.fromarray(np.full((8, 8), grey, dtype=np.uint8)).save(root / place)
    assert PadChestSource(str(root)).image(name).mean() == 1


def test_the_root_may_be_below_the_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves the tilde of data.root=~/PadChest as it is."""
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.setenv("USERPROFILE", str(root.parent))
    assert len(PadChestSource(f"~/{root.name}").table()) == len(USABLE)


def test_where_images_come_from_and_when_they_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cache goes by: the folder, however it is named, and every file's size and time."""
    name = image_id("healthy")
    monkeypatch.chdir(root)
    source = PadChestSource(".")
    assert source.origin == PadChestSource(str(root)).origin != PadChestSource("..").origin
    versions = set()
    for content, time in ((b"one", 1), (b"more", 1), (b"less", 2)):
        (root / name).write_bytes(content)
        os.utime(root / name, ns=(time, time))
        versions.add(source.version(name))
    assert len(versions) == 3
    (root / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        source.version(name)


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
    with pytest.raises(DataError, match=f"1 values of {column} .*lead out of the folder: {re.escape(repr(value))}"):
        PadChestSource(str(root)).table()


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
    with pytest.raises(DataError, match=r"no row is left(.|\n)*4 rows of(.|\n)*0 projection"):
        PadChestSource(str(tmp_path)).table()


def test_another_delimiter_is_named(tmp_path: Path) -> None:
    padchest_table().to_csv(tmp_path / LABEL_FILES[0], index=False, sep=";")
    with pytest.raises(DataError, match="delimited by commas"):
        PadChestSource(str(tmp_path)).table()


@pytest.mark.parametrize("column", ["Labels", "LabelsLocalizationsBySentence"])
def test_a_row_that_cannot_be_parsed_is_named(tmp_path: Path, column: str) -> None:
    table = padchest_table()
    table.loc[2, column] = "[['kyphosis'"
    write_labels(tmp_path, table)
    with pytest.raises(DataError, match=f"{LABEL_FILES[0]}: image places_by_sentence.*{column}"):
        PadChestSource(str(tmp_path)).table()


@pytest.mark.parametrize("encoding", ["utf-16", "gzip"])
def test_what_is_no_utf8_is_said(root: Path, encoding: str) -> None:
    path = root / LABEL_FILES[0]
    text = path.read_text()
    path.write_bytes(gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding))
    with pytest.raises(DataError, match=r"is no UTF-8 text.*if it is compressed, name it .*\.csv\.gz"):
        PadChestSource(str(root)).table()


def test_a_mark_of_the_byte_order_and_reports_in_latin_1_are_read(root: Path) -> None:
    """Neither touches a column that is needed."""
    path = root / LABEL_FILES[0]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"hallazg", b"hallazg \xf3"))
    assert len(PadChestSource(str(root)).table()) == len(USABLE)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'ImageID\n"', gzip.compress(b"x" * 999, mtime=0)[:-9]])
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
    with pytest.raises(
        ConfigError, match=r"projections.*'lateral'(.|\n)*labels: choose at(.|\n)*min_age(.|\n)*studies"
    ):
        PadChestSource("anywhere", projections=["PA", "lateral"], labels=[], min_age=-1, min_studies=0)
