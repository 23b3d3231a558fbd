"""Answers of every form: read, or said to be unreadable; never an error."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.answers import PHRASES, AnswerForm, EnglishReport, MedGemmaBoxes, NameList, ReportForm
from xrayexp.data.report import Finding, Report, write_report
from xrayexp.errors import DataError

NAMES = ("cardiomegaly", "effusion", "pleural effusion", "nodule", "pneumothorax")
FORMS: tuple[AnswerForm, ...] = (ReportForm(), NameList(), EnglishReport(), MedGemmaBoxes())


def names(form: AnswerForm, text: str) -> list[str] | None:
    report = form.read(text, NAMES).report
    return None if report is None else [finding.name for finding in report.findings]


ENGLISH = {
    "The heart is enlarged. Small left pleural effusion.": ["cardiomegaly", "pleural effusion"],
    "No pneumothorax or effusion. Mild cardiomegaly": ["cardiomegaly"],
    "Cardiomegaly without pulmonary edema; possible pneumonia.": ["cardiomegaly", "pneumonia"],
    "No effusion, but there is a right apical pneumothorax": ["pneumothorax"],
    "Pneumothorax is not seen. The lungs are clear.": ["normal"],
    "FINDINGS: Lungs are clear.\nIMPRESSION: No acute disease.": ["normal"],
    "Calcified granuloma in the left lung, no other nodules.": ["calcified granuloma"],
    "Two nodules. <unused94>x<unused95>": ["nodule"],
    "<unused94>There may be a nodule": None,
    "I cannot read images.": None,
    "": None,
}


@pytest.mark.parametrize("text, expected", ENGLISH.items(), ids=ENGLISH)
def test_english_reports(text: str, expected: list[str] | None) -> None:
    assert names(EnglishReport(), text) == expected


LISTS = {
    "Cardiomegaly, pleural effusion": ["cardiomegaly", "pleural effusion"],
    "- nodule\n- Nodule\n2. **pneumothorax**.": ["nodule", "pneumothorax"],
    "none": ["normal"],
    "normal, nodule": ["nodule"],
    "unicorn": ["unicorn"],
    "The image shows a nodule": None,
    " \n": None,
}


@pytest.mark.parametrize("text, expected", LISTS.items(), ids=LISTS)
def test_lists_of_names(text: str, expected: list[str] | None) -> None:
    assert names(NameList(), text) == expected


def test_boxes_with_labels_in_other_words() -> None:
    text = json.dumps([{"box_2d": [0, 0, 500, 500], "label": label} for label in ("Left pleural effusion", "mass")])
    reading = MedGemmaBoxes().read(text, NAMES)
    assert names(MedGemmaBoxes(), text) == ["pleural effusion", "mass"]
    assert reading.boxes is not None
    assert reading.boxes.labels == ("pleural effusion", "mass")
    assert names(MedGemmaBoxes(), "[]") == ["normal"]
    text = json.dumps(
        [{"box_2d": [0, 0, 5, 5], "label": label} for label in ("Massive haze", "abnormal hilum", "Masses")]
    )
    found = MedGemmaBoxes().read(text, ("mass", "normal")).report
    assert found == Report((Finding("massive haze"), Finding("abnormal hilum"), Finding("mass")))
    assert names(MedGemmaBoxes(), "Nothing.") is None


def test_this_projects_reports() -> None:
    assert names(ReportForm(), write_report([Finding("nodule", ("left",))])) == ["nodule"]
    assert names(ReportForm(), "nodule") is None


@given(st.text(), st.sampled_from(FORMS))
def test_no_answer_is_an_error(text: str, form: AnswerForm) -> None:
    reading = form.read(text, NAMES)
    assert reading.report is None or reading.report.findings
    assert reading.boxes is None or form.draws_boxes


def test_phrases_stand_for_padchests_names() -> None:
    known = json.loads((Path(__file__).parent / "padchest_vocabulary.json").read_text())["findings"]
    with PHRASES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} <= set(known)
    phrases = [phrase for row in rows for phrase in (row["name"], *filter(None, row["phrases"].split("; ")))]
    assert len(phrases) == len(set(phrases))
    assert all(names(EnglishReport(), phrase) for phrase in phrases)


def test_phrases_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "phrases.csv").write_text("name,phrases\nnodule,coin lesion\n", encoding="utf-8")
    assert names(EnglishReport(str(tmp_path / "phrases.csv")), "A coin lesion.") == ["nodule"]
    with pytest.raises(DataError, match=r"none\.csv"):
        EnglishReport(str(tmp_path / "none.csv"))
