"""The readers of test sets, on hand-written files of the originals' shape."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.data.checks import test_set_folder as folder_check
from xrayexp.data.examples import BoxedSource, examples_from_table
from xrayexp.data.external.chexpert import CheXpertSource
from xrayexp.data.external.chexpert_labels import Protocol
from xrayexp.data.external.mimic import MIMICSource
from xrayexp.data.external.nih import NIHSource
from xrayexp.data.external.padchest_gr import PadChestGRSource
from xrayexp.data.external.test_set import TestSet
from xrayexp.data.external.vindr import VinDrSource
from xrayexp.data.observations import OBSERVATIONS, read_observations
from xrayexp.data.report import NORMAL, Finding, Report
from xrayexp.data.selection import read_identifiers
from xrayexp.data.vocabulary import TABLE, Vocabulary
from xrayexp.errors import ConfigError, DataError

PADCHEST = json.loads((Path(__file__).parents[1] / "padchest_vocabulary.json").read_text())["findings"]


def draw(path: Path, height: int = 60, width: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(height * width, dtype=np.uint8).reshape(height, width)).save(path)


def findings(source: TestSet) -> dict[str, list[str]]:
    """The names of every image's findings; table and examples agree on them."""
    return {e.image_id: [f.name for f in e.findings] for e in examples_from_table(source.table())}


# --- VinDr-CXR ---

VINDR = """\
image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
two,Cardiomegaly,3,R1,10,30,30,50
two,Cardiomegaly,3,R2,12,30,30,50
two,Nodule/Mass,8,R2,0,0,8,8
two,No finding,14,R3,,,,
normal,No finding,14,R1,,,,
normal,Pneumothorax,12,R2,0,0,8,8
normal,No finding,14,R3,,,,
apart,Pleural effusion,10,R1,0,0,10,10
apart,Pleural effusion,10,R2,20,20,30,30
apart,Other lesion,9,R3,0,0,8,8
nothing,Atelectasis,1,R1,0,0,8,8
nothing,Cardiomegaly,3,R2,0,0,8,8
nothing,No finding,14,R3,,,,
"""


@pytest.fixture
def vindr(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(VINDR, encoding="utf-8")
    for name in ("two", "normal", "apart", "nothing"):
        draw(tmp_path / "train" / f"{name}.png")
    return tmp_path


def test_vindr_is_what_two_of_three_readers_see(vindr: Path) -> None:
    source = VinDrSource(str(vindr))
    assert findings(source) == {"two": ["cardiomegaly"], "normal": [NORMAL], "apart": ["pleural effusion"]}
    assert source.boxes("two") == TrueBoxes((FindingBox("cardiomegaly", (30, 11, 50, 30)),))  # the mean of both
    assert source.boxes("normal") == TrueBoxes(())
    assert source.boxes("apart") == TrueBoxes((), unboxed=frozenset({"pleural effusion"}))  # they disagree on where
    assert source.image("two").shape == source.shape("two") == (60, 40)
    assert source.absent(["two"]) == {}


def test_vindrs_test_set_is_a_consensus(vindr: Path) -> None:
    (vindr / "annotations").mkdir()
    rows = "image_id,class_name,x_min,y_min,x_max,y_max\ntwo,Nodule/Mass,0,0,8,9\nnormal,No finding,,,,\n"
    (vindr / "annotations" / "annotations_test.csv").write_text(rows, encoding="utf-8")
    source = VinDrSource(str(vindr), labels="test")
    assert findings(source) == {"two": ["nodule"], "normal": [NORMAL]}
    assert source.boxes("two") == TrueBoxes((FindingBox("nodule", (0, 0, 9, 8)),))


def test_vindrs_rarer_labels_are_left_out(vindr: Path) -> None:
    """PhysioNet's files have 22 labels, Kaggle's 14."""
    labels = (("two", "Cardiomegaly"), ("two", "Edema"), ("cyst", "Lung cyst"))
    rows = [f"{image},{reader},{label},0,0,9,9" for image, label in labels for reader in ("R1", "R2", "R3")]
    head = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
    (vindr / "train.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    assert findings(VinDrSource(str(vindr))) == {"two": ["cardiomegaly"]}


def test_boxes_need_the_images_original_size(vindr: Path) -> None:
    draw(vindr / "train" / "two.png", 30, 20)
    with pytest.raises(DataError, match="original size"):
        VinDrSource(str(vindr)).boxes("two")


# --- NIH ---


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    """The box file's header is that of the original, with its three commas too many."""
    boxes = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000013_008.png,Infiltrate,256,512.0,512,256\n"
    (tmp_path / "BBox_List_2017.csv").write_text(boxes, encoding="utf-8")
    entries = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
        "00000013_008.png,Infiltration|Hernia,8,13,57,M,PA,2682,2749,0.143,0.143\n"
        "00000014_000.png,No Finding,0,14,57,M,PA,2682,2749,0.143,0.143\n"
        "00000015_000.png,Mass,0,15,57,M,PA,2682,2749,0.143,0.143\n"
    )
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(entries, encoding="utf-8")
    (tmp_path / "test_list.txt").write_text("00000014_000.png\n00000015_000.png\n", encoding="utf-8")
    for name in ("00000013_008", "00000014_000", "00000015_000"):
        draw(tmp_path / "images_002" / "images" / f"{name}.png", 64, 64)
    return tmp_path


def test_nihs_boxes_are_read_whatever_their_header_says(nih: Path) -> None:
    source = NIHSource(str(nih))
    assert findings(source) == {"00000013_008.png": ["infiltrates", "hiatal hernia"]}
    # A mirror at 64 of 1,024 pixels: boxes are shares of the image.
    assert source.boxes("00000013_008.png") == TrueBoxes(
        (FindingBox("infiltrates", (32, 16, 48, 48)),), unboxed=frozenset({"hiatal hernia"})
    )
    assert source.table()["PatientID"].tolist() == ["13"]


def test_nihs_test_list_has_no_boxes(nih: Path) -> None:
    source = NIHSource(str(nih), images="test")
    assert findings(source) == {"00000014_000.png": [NORMAL], "00000015_000.png": ["pulmonary mass"]}
    assert source.boxes("00000015_000.png") is None


# --- PadChest-GR ---

STUDIES = [
    {
        "StudyID": "s1", "ImageID": "one.png", "PreviousStudyID": None, "PreviousImageID": None,
        "findings": [
            {"sentence_en": "Cardiomegaly.", "sentence_es": "Cardiomegalia.", "abnormal": True,
             "boxes": [[0.25, 0.5, 0.75, 0.75]], "extra_boxes": [[0.25, 0.5, 0.75, 0.85]],
             "labels": ["cardiomegaly"], "locations": ["loc cardiac"], "progression": None},
            {"sentence_en": "Nodules.", "sentence_es": "Nódulos.", "abnormal": True,
             "boxes": [[0, 0, 0.1, 0.1], [0.5, 0, 0.6, 0.1]], "labels": ["nodule"], "locations": ["right", "left"]},
            {"sentence_en": "Chronic changes.", "sentence_es": "Cambios crónicos.", "abnormal": True,
             "boxes": [], "extra_boxes": [], "labels": ["chronic changes"], "locations": []},
            {"sentence_en": "No effusion.", "sentence_es": "Sin derrame.", "abnormal": False},
        ],
    },
    {"StudyID": "s2", "ImageID": "two.png", "findings": [{"sentence_en": "Normal.", "abnormal": False}]},
    {"StudyID": "s3", "ImageID": "three.png", "findings": [{"sentence_en": "Odd.", "abnormal": True, "labels": []}]},
    {"StudyID": "s4", "ImageID": "four.png", "findings": [{"sentence_en": "Normal.", "abnormal": False}]},
]  # fmt: skip


@pytest.fixture
def padchest_gr(tmp_path: Path) -> Path:
    (tmp_path / "grounded_reports_20240819.json").write_text(json.dumps(STUDIES), encoding="utf-8")
    rows = "StudyID,PatientID,split\ns1,p1,test\ns1,p1,test\ns2,p2,test\ns3,p3,test\ns4,p4,train\n"
    (tmp_path / "master_table.csv").write_text(rows, encoding="utf-8")
    draw(tmp_path / "PadChest_GR" / "one.png", 200, 100)
    return tmp_path


def test_padchest_gr_states_what_its_sentences_state(padchest_gr: Path) -> None:
    source = PadChestGRSource(str(padchest_gr))
    examples = {example.image_id: example for example in examples_from_table(source.table())}
    assert set(examples) == {"one.png", "two.png"}  # of the test split, and with a label
    assert examples["one.png"].findings == (
        Finding("cardiomegaly", ("cardiac",)), Finding("nodule", ("right", "left")), Finding("chronic changes"),
    )  # fmt: skip
    assert examples["two.png"].findings == (Finding(NORMAL),)
    assert examples["one.png"].patient_id == "p1"
    assert examples["one.png"].text == "Cardiomegaly. Nodules. Chronic changes. No effusion."
    spanish = examples_from_table(PadChestGRSource(str(padchest_gr), language="es").table())
    assert spanish[0].text == "Cardiomegalia. Nódulos. Cambios crónicos. Sin derrame."


def test_padchest_grs_readers_are_fused(padchest_gr: Path) -> None:
    boxes = PadChestGRSource(str(padchest_gr)).boxes("one.png")
    assert boxes is not None
    assert [box.finding for box in boxes.boxes] == ["cardiomegaly", "nodule", "nodule"]
    np.testing.assert_allclose(
        [box.box for box in boxes.boxes], [(100, 25, 160, 75), (0, 0, 20, 10), (0, 50, 20, 60)], atol=1e-9
    )
    assert boxes.unboxed == {"chronic changes"}


def test_padchest_grs_patients_can_be_left_out_of_training(padchest_gr: Path) -> None:
    assert read_identifiers(padchest_gr / "grounded_reports_20240819.json") == {"s1", "s2", "s3", "s4"}


def test_padchest_gr_without_patients_has_no_splits(padchest_gr: Path) -> None:
    (padchest_gr / "master_table.csv").unlink()
    with pytest.raises(DataError, match=r"master_table\.csv"):
        PadChestGRSource(str(padchest_gr)).table()
    every = PadChestGRSource(str(padchest_gr), split=None).table()
    assert every["PatientID"].tolist() == ["s1", "s2", "s4"]


# --- CheXpert and MIMIC-CXR ---


def label_row(**cells: str) -> list[str]:
    return [cells.get(label.replace(" ", "_"), "") for label in OBSERVATIONS]


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    rows = [
        ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS],
        ["CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg", "Male", "73", "Frontal", "AP",
         *label_row(Edema="1.0", Cardiomegaly="-1.0", Support_Devices="1.0", Pneumonia="0.0")],
        ["CheXpert-v1.0-small/valid/patient64542/study1/view1_frontal.jpg", "Male", "73", "Frontal", "PA",
         *label_row(No_Finding="1.0")],
        ["CheXpert-v1.0-small/valid/patient64542/study1/view2_lateral.jpg", "Male", "73", "Lateral", "",
         *label_row(No_Finding="1.0")],
    ]  # fmt: skip
    with (tmp_path / "valid.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    draw(tmp_path / "valid" / "patient64541" / "study1" / "view1_frontal.jpg")
    return tmp_path


FIRST = "valid_patient64541_study1_view1_frontal.jpg"


@pytest.mark.parametrize(
    "options, stated, unknown",
    [
        ({}, ["cardiomegaly", "pulmonary edema", "electrical device"], set()),
        ({"uncertain": "zeros"}, ["pulmonary edema", "electrical device"], set()),
        ({"uncertain": "ignore"}, ["pulmonary edema", "electrical device"], {"cardiomegaly"}),
        ({"classes": 5}, ["cardiomegaly", "pulmonary edema"], set()),
    ],
)
def test_chexperts_protocols(chexpert: Path, options: dict[str, Any], stated: list[str], unknown: set[str]) -> None:
    source = CheXpertSource(str(chexpert), **options)
    found = {example.image_id: example for example in examples_from_table(source.table())}
    assert len(found) == 2  # no lateral
    assert sorted(f.name for f in found[FIRST].findings) == sorted(stated)
    assert found[FIRST].unknown == unknown
    assert found[FIRST].patient_id == "patient64541"
    assert source.image(FIRST).shape == (60, 40)
    assert list(source.absent(list(found))) == ["valid_patient64542_study1_view1_frontal.jpg"]


def test_mimics_test_split(tmp_path: Path) -> None:
    with (tmp_path / "mimic-cxr-2.0.0-chexpert.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["subject_id", "study_id", *OBSERVATIONS], ["10000032", "50414267", *label_row(Pleural_Effusion="1.0")],
             ["10000033", "50414268", *label_row(Atelectasis="-1.0")]]
        )  # fmt: skip
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text(
        "dicom_id,study_id,subject_id,split\na,50414267,10000032,test\nb,50414267,10000032,test\n"
        "c,50414268,10000033,train\nd,9,10000034,test\n"
    )
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv").write_text(
        "dicom_id,subject_id,study_id,ViewPosition\na,10000032,50414267,PA\nb,10000032,50414267,LATERAL\n"
        "c,10000033,50414268,AP\nd,10000034,9,PA\n"
    )
    draw(tmp_path / "files" / "p10" / "p10000032" / "s50414267" / "a.jpg")
    source = MIMICSource(str(tmp_path))
    assert findings(source) == {"a.jpg": ["pleural effusion"]}  # frontal, of the split, with labels
    assert source.absent(["a.jpg"]) == {}
    assert findings(MIMICSource(str(tmp_path), split="train", uncertain="zeros")) == {"c.jpg": [NORMAL]}


# --- what they share ---

SOURCES: list[tuple[Callable[..., TestSet], str]] = [
    (VinDrSource, "train.csv"),
    (NIHSource, "Data_Entry_2017"),
    (PadChestGRSource, "grounded_reports"),
    (CheXpertSource, "valid.csv"),
    (MIMICSource, "mimic-cxr-2.0.0-chexpert.csv"),
]


@pytest.mark.parametrize("source, file", SOURCES, ids=[file for _, file in SOURCES])
def test_what_is_missing_is_named_with_where_to_get_it(
    tmp_path: Path, source: Callable[..., TestSet], file: str
) -> None:
    for root, named in ((None, "data.root"), (str(tmp_path / "none"), "none"), (str(tmp_path), file)):
        with pytest.raises(DataError, match=rf"(?s){named}.*http"):
            source(root).table()


@pytest.mark.parametrize(
    "source, options",
    [
        (VinDrSource, {"labels": "all"}),
        (NIHSource, {"images": "all"}),
        (PadChestGRSource, {"language": "fr"}),
        (CheXpertSource, {"classes": 7}),
        (MIMICSource, {"uncertain": "maybe"}),
    ],
)
def test_unknown_choices_are_refused(source: Callable[..., TestSet], options: dict[str, Any]) -> None:
    [value] = options.values()
    with pytest.raises(ConfigError, match=str(value)):
        source("folder", **options)


def test_the_folder_is_checked_before_anything_slow(tmp_path: Path) -> None:
    files = [["train.csv", "labels*.csv"], ["boxes.csv"]]
    for root in (None, str(tmp_path / "none"), str(tmp_path)):
        check = folder_check(root, "VinDr-CXR", files, "https://example.org")
        assert check.status == "missing"
        assert "https://example.org" in check.fix
    for name in ("labels_1.csv", "boxes.csv"):
        (tmp_path / name).touch()
    assert folder_check(str(tmp_path), "VinDr-CXR", files, "https://example.org").status == "ok"


def test_names_that_lead_out_of_the_folder_are_absent(vindr: Path) -> None:
    inside = vindr / "inside"
    inside.mkdir()
    (inside / "train.csv").write_text(VINDR.replace("two,", "../train/two.png,"), encoding="utf-8")
    source = VinDrSource(str(inside))
    assert set(source.absent(list(findings(source)))) == {"../train/two.png", "normal", "apart"}


def test_they_know_boxes(vindr: Path) -> None:
    assert isinstance(VinDrSource(str(vindr)), BoxedSource)


# --- the table of names ---


def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_name_is_padchests_and_falls_under_one_label() -> None:
    for data in {row["data"] for row in rows()}:
        places = [
            (narrow, row["name"])
            for row in rows()
            if row["data"] == data and row["name"]
            for narrow in {row["name"], *filter(None, row["padchest"].split("; "))}
        ]
        assert {narrow for narrow, _ in places} <= set(PADCHEST)
        assert len({narrow for narrow, _ in places}) == len(set(places)), data


def test_a_report_is_restated_in_the_labels_of_a_data_set() -> None:
    vocabulary = Protocol(14, "ones").vocabulary
    report = Report((Finding("laminar atelectasis", ("left",)), Finding("atelectasis"), Finding("scoliosis")))
    assert vocabulary.restated(report) == Report((Finding("atelectasis"),))
    assert vocabulary.restated(Report((Finding("scoliosis"),))) == Report((Finding(NORMAL),))
    assert vocabulary.restated(report, unknown=frozenset({"atelectasis"})) == Report((Finding(NORMAL),))
    assert vocabulary.restated(Report((Finding(NORMAL),))) == Report((Finding(NORMAL),))
    five = Protocol(5, "ones").vocabulary
    assert five.restated(Report((Finding("hilar congestion"), Finding("nodule")))) == Report(
        (Finding("pulmonary edema"),)
    )
    both = Report((Finding("pneumothorax"), Finding("pleural effusion")))
    assert vocabulary.restated(Report((Finding("hydropneumothorax"),))) == both


def test_an_observation_has_a_name_that_falls_under_it_alone() -> None:
    broader = Protocol(14, "ones").vocabulary.broader
    table = read_observations()
    assert {labels[0]: broader[labels[0]] for labels in table.values()} == {
        labels[0]: (labels[0],) for labels in table.values()
    }


def test_unknown_labels_are_refused() -> None:
    with pytest.raises(DataError, match="Cardiomegalia"):
        Vocabulary.of("vindr").named("Cardiomegalia", "train.csv")
    with pytest.raises(DataError, match="Hernia"):  # NIH's
        Vocabulary.of("vindr").named("Hernia", "train.csv")
