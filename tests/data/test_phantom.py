"""Phantoms: the same for ever, labelled in PadChest's words, with the findings really in the pixels."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayexp.data.examples import examples_from_table
from xrayexp.data.phantom import ACUTE, CHRONIC, FINDINGS, RIVALS, PhantomSource
from xrayexp.data.phantom_drawing import Acquisition, Box, draw
from xrayexp.data.report import NORMAL, Finding, parse_report, write_report
from xrayexp.errors import ConfigError, DataError

VOCABULARY = json.loads((Path(__file__).parent / "padchest_vocabulary.json").read_text(encoding="utf-8"))
SIZE = 96
VARIED = Acquisition(contrast=(0.65, 1.0), noise=(0.015, 0.05), rotation=5.0, zoom=(0.94, 1.06), shift=0.04)
# An acquisition that changes nothing, so that what differs between two images is what was drawn.
PLAIN = Acquisition(contrast=(1.0, 1.0), noise=(0.0, 0.0), rotation=0.0, zoom=(1.0, 1.0), shift=0.0)
PLACED = [Finding(name, places) for name, lists in {**CHRONIC, **ACUTE}.items() for places in lists]

seeds = st.integers(0, 2**31)


def source(patients: int = 40, seed: int = 0, findings: list[str] | None = None) -> PhantomSource:
    return PhantomSource(patients, SIZE, seed, VARIED, findings)


def drawn(*findings: Finding, seed: int) -> tuple[np.ndarray, tuple[Box, ...]]:
    """A study of one patient without any variation of the acquisition."""
    anatomy, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    return draw(findings, size=SIZE, acquisition=PLAIN, anatomy=anatomy, rng=rng)


def place(finding: Finding) -> str:
    """A readable name of a test case."""
    return " ".join((finding.name, *finding.locations))


@given(seeds, st.integers(0, 30), st.integers(31, 200))
@settings(max_examples=20, deadline=None)
def test_a_patient_depends_on_nobody_else(seed: int, patient: int, patients: int) -> None:
    few, many = source(31, seed), source(patients, seed)
    rows = [s.table() for s in (few, many)]
    mine = [table[table.PatientID == f"{seed}{patient:06d}"].reset_index(drop=True) for table in rows]
    assert mine[0].equals(mine[1])
    last, *others = mine[0].ImageID[::-1]
    later = many.image(last)  # asked for in another order, and after other images
    for image_id in (last, *others):
        assert np.array_equal(few.image(image_id), many.image(image_id))
    assert np.array_equal(later, few.image(last))


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_an_image_and_its_boxes(seed: int) -> None:
    phantoms = source(3, seed)
    for example in examples_from_table(phantoms.table()):
        phantom = phantoms.phantom(example.image_id)
        assert phantom.image.dtype == np.uint8
        assert phantom.image.shape == (SIZE, SIZE)
        assert phantom.image.std() > 5
        for box in phantom.boxes:
            assert 0 <= box.y0 < box.y1 <= SIZE
            assert 0 <= box.x0 < box.x1 <= SIZE
        abnormal = {finding.name for finding in example.findings} - {NORMAL}
        assert {box.finding for box in phantom.boxes} == abnormal


def test_another_seed_is_another_population() -> None:
    one, other = source(seed=0), source(seed=1)
    ids = [set(s.table().ImageID) for s in (one, other)]
    assert not ids[0] & ids[1]
    first = [sorted(names)[0] for names in ids]
    assert not np.array_equal(one.image(first[0]), other.image(first[1]))


def test_the_studies_of_a_patient_differ_in_what_is_acute_alone() -> None:
    table = source(300).table()
    several = [rows for _, rows in table.groupby("PatientID") if len(rows) > 1]
    assert 80 < len(several) < 160  # 40 % of the patients
    chronic = [[{f for f in e.findings if f.name in CHRONIC} for e in examples_from_table(rows)] for rows in several]
    assert all(study == studies[0] for studies in chronic for study in studies)
    assert any(len(set(rows.LabelsLocalizationsBySentence)) > 1 for rows in several)


@pytest.fixture(scope="module")
def studies() -> list[tuple[Finding, ...]]:
    return [example.findings for example in examples_from_table(source(3000).table())]


def test_one_study_in_five_is_normal(studies: list[tuple[Finding, ...]]) -> None:
    normal = sum(findings == (Finding(NORMAL),) for findings in studies) / len(studies)
    assert normal == pytest.approx(0.2, abs=0.03)


def test_every_finding_occurs_at_every_place_and_several_in_an_image(studies: list[tuple[Finding, ...]]) -> None:
    assert {finding for findings in studies for finding in findings} == {*PLACED, Finding(NORMAL)}
    assert len(FINDINGS) >= 11  # beside 'normal'
    assert sum(len(findings) > 1 for findings in studies) > len(studies) / 4


def test_rivals_never_share_a_place(studies: list[tuple[Finding, ...]]) -> None:
    together = 0
    for one, other in (pair for findings in studies for pair in combinations(findings, 2)):
        if any(one.name in group and other.name in group for group in RIVALS):
            together += 1
            assert "bilateral" not in {*one.locations, *other.locations}
            assert not set(one.locations) & set(other.locations)
    assert together > 0


def test_the_words_are_padchests(studies: list[tuple[Finding, ...]]) -> None:
    labels, places = set(VOCABULARY["findings"]), set(VOCABULARY["locations"])
    for finding in PLACED:
        assert finding.name in labels
        assert set(finding.locations) <= places


def test_every_study_has_a_report_that_reads_back(studies: list[tuple[Finding, ...]]) -> None:
    for findings in set(studies):
        report = parse_report(write_report(findings))
        assert report is not None
        assert report.findings == findings


@pytest.mark.parametrize("finding", PLACED, ids=place)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_finding_changes_the_pixels_in_its_boxes(finding: Finding, seed: int) -> None:
    healthy, none = drawn(seed=seed)
    image, boxes = drawn(finding, seed=seed)
    assert none == ()
    assert {box.finding for box in boxes} == {finding.name}
    change = np.abs(image.astype(int) - healthy)
    inside = np.zeros(change.shape, dtype=bool)
    for box in boxes:
        area = change[box.y0 : box.y1, box.x0 : box.x1]
        assert area.max() > 25, "nothing to see here"
        inside[box.y0 : box.y1, box.x0 : box.x1] = True
    # A heart or a diaphragm that moved also changes what lies around it.
    share_inside = change[inside].sum() / change.sum()
    assert share_inside > (0.5 if finding.name in ("cardiomegaly", "hemidiaphragm elevation", "scoliosis") else 0.8)


@pytest.mark.parametrize("finding", PLACED, ids=place)
def test_the_patients_left_is_the_images_right(finding: Finding) -> None:
    sides = {word for location in finding.locations for word in location.split()} & {"left", "right", "bilateral"}
    if not sides:
        assert len(drawn(finding, seed=0)[1]) == 1
        return
    centres = [(box.x0 + box.x1) / 2 for box in drawn(finding, seed=0)[1]]
    expected = {"left": [True], "right": [False], "bilateral": [False, True]}[sides.pop()]
    assert sorted(centre > SIZE / 2 for centre in centres) == expected


@pytest.mark.parametrize("finding", PLACED, ids=place)
def test_upper_is_above_lower(finding: Finding) -> None:
    lobe = next((location for location in finding.locations if location.endswith("lobe")), None)
    low = lobe is not None and "lower" in lobe
    low = low or any(location.startswith("basal") for location in finding.locations)
    high = (lobe is not None and "upper" in lobe) or "apical" in finding.locations
    middles = [(box.y0 + box.y1) / 2 for box in drawn(finding, seed=0)[1]]
    assert not low or all(middle > SIZE * 0.5 for middle in middles)
    assert not high or all(middle < SIZE * 0.4 for middle in middles)


@given(st.lists(st.sampled_from(FINDINGS), unique=True, max_size=4), seeds)
@settings(max_examples=20, deadline=None)
def test_only_chosen_findings_occur(chosen: list[str], seed: int) -> None:
    examples = examples_from_table(source(20, seed, chosen).table())
    assert {f.name for example in examples for f in example.findings} <= {*chosen, NORMAL}


@pytest.mark.parametrize(
    "image_id", ["", "x.png", "phantom_0_000001.png", "phantom_1_000001_0.png", "phantom_0_000040_0.png",
                 "phantom_0_000001_9.png", "phantom_0_-00001_0.png", "phantom_0_a_0.png"],
)  # fmt: skip
def test_an_image_that_is_not_in_the_population(image_id: str) -> None:
    with pytest.raises(DataError):
        source().image(image_id)


def test_all_problems_of_a_source_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        PhantomSource(0, 8, 0, VARIED, ["nodule", "broken heart"])
    assert len(caught.value.problems) == 3
    assert "broken heart" in str(caught.value)
