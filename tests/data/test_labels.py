"""PadChest's label columns: both sentence formats, and which location belongs to which finding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.labels import (
    NORMAL,
    PHYSICIAN,
    RNN_MODEL,
    STATUSES,
    Sentence,
    findings_of,
    parse_cuis,
    parse_labels,
    parse_sentences,
)
from xrayexp.data.report import Finding
from xrayexp.errors import DataError

VOCABULARY = json.loads(Path(__file__).with_name("padchest_vocabulary.json").read_text())


def findings(text: str, method: str) -> tuple[Finding, ...]:
    return findings_of(parse_sentences(text, method))


def test_physician_sentences_are_nested() -> None:
    text = "[['alveolar pattern', 'interstitial pattern', 'loc basal', 'loc left'], [], ['unchanged']]"
    assert parse_sentences(text, PHYSICIAN) == (
        Sentence(("alveolar pattern", "interstitial pattern"), ("basal", "left")),
        Sentence((), ()),
        Sentence(("unchanged",), ()),
    )


def test_rnn_sentences_are_flat_and_leading_blanks_continue_them() -> None:
    text = "['consolidation', ' pneumonia', 'loc middle lobe', 'exclude', '', 'loc left', 'mass', 'loc right']"
    assert parse_sentences(text, RNN_MODEL) == (
        Sentence(("consolidation", "pneumonia"), ("middle lobe",)),
        Sentence(("exclude",), ()),
        Sentence((), ("left",)),
        Sentence(("mass",), ("right",)),
    )


def test_rnn_list_may_begin_in_the_middle_of_a_sentence() -> None:
    assert parse_sentences("['loc left', ' nodule']", RNN_MODEL) == (Sentence(("nodule",), ("left",)),)


def test_bare_nan_is_an_empty_sentence() -> None:
    empty, nodule = Sentence((), ()), Sentence(("nodule",), ("nan",))
    assert parse_sentences("[nan, ['nodule', 'loc nan'], nan]", PHYSICIAN) == (empty, nodule, empty)
    assert parse_sentences("[['nodule', nan, 'loc nan']]", PHYSICIAN) == (nodule,)
    assert parse_sentences("[nan, 'nodule', 'loc nan']", RNN_MODEL) == (empty, nodule)


def test_only_loc_with_a_blank_marks_a_location() -> None:
    text = "[['loculated pleural effusion', 'loculated fissural effusion', 'loc fissure']]"
    sentence = Sentence(("loculated pleural effusion", "loculated fissural effusion"), ("fissure",))
    assert parse_sentences(text, PHYSICIAN) == (sentence,)


def test_labels_are_lower_case_and_unique() -> None:
    sentence = Sentence(("copd signs", "nsg tube"), ("left",))
    text = "[['COPD signs', 'copd signs ', 'NSG tube', 'loc left', 'loc Left']]"
    assert parse_sentences(text, PHYSICIAN) == (sentence,)


def test_labels_may_hold_quotes() -> None:
    assert parse_labels(str(["kerley's lines", "normal"])) == ("kerley's lines", "normal")


@pytest.mark.parametrize(
    "text, method",
    [
        ("", PHYSICIAN),
        ("pneumonia", PHYSICIAN),
        ("[['pneumonia'", PHYSICIAN),
        ("['pneumonia']", PHYSICIAN),
        ("[[['pneumonia']]]", PHYSICIAN),
        ("[['pneumonia', 3]]", PHYSICIAN),
        ("{'pneumonia'}", RNN_MODEL),
        ("[['pneumonia']]", RNN_MODEL),
        ("[None]", RNN_MODEL),
        ("[__import__('os').getcwd()]", RNN_MODEL),
        ("['pneumonia', \0]", RNN_MODEL),
        ("[" * 1000, RNN_MODEL),
        ("['pneumonia']", "Radiologist"),
    ],
)
def test_other_text_is_refused(text: str, method: str) -> None:
    with pytest.raises(DataError):
        parse_sentences(text, method)


@given(st.text(), st.sampled_from([PHYSICIAN, RNN_MODEL]))
def test_any_text_parses_or_is_refused(text: str, method: str) -> None:
    try:
        sentences = parse_sentences(text, method)
    except DataError:
        return
    assert all(isinstance(sentence, Sentence) for sentence in sentences)


def test_locations_stay_with_their_sentence() -> None:
    text = "[['pleural effusion', 'atelectasis', 'loc left'], ['nodule'], ['cardiomegaly', 'loc cardiac']]"
    assert findings(text, PHYSICIAN) == (
        Finding("pleural effusion", ("left",)),
        Finding("atelectasis", ("left",)),
        Finding("nodule"),
        Finding("cardiomegaly", ("cardiac",)),
    )


def test_locations_of_healthy_and_unlabelled_sentences_are_dropped() -> None:
    text = "['nodule', 'normal', 'loc rib', '', 'loc left', 'exclude', 'loc basal', 'unchanged', 'loc hilar']"
    assert findings(text, RNN_MODEL) == (Finding("nodule"),)


def test_the_same_finding_in_two_places_stays_twice() -> None:
    text = "[['nodule', 'loc left'], ['nodule', 'loc right'], ['nodule', 'loc left']]"
    assert findings(text, PHYSICIAN) == (Finding("nodule", ("left",)), Finding("nodule", ("right",)))


def test_normal_has_no_locations() -> None:
    assert findings("[['normal', 'loc cardiac'], ['normal'], ['unchanged']]", PHYSICIAN) == (Finding(NORMAL),)


def test_a_finding_contradicts_normal() -> None:
    text = "['normal', 'loc cardiac', 'kyphosis', ' normal', 'loc column']"
    assert findings(text, RNN_MODEL) == (Finding("kyphosis", ("column",)),)


@pytest.mark.parametrize("text", ["[]", "['']", "['unchanged', 'exclude', 'loc left', 'suboptimal study']"])
def test_statuses_alone_are_no_finding(text: str) -> None:
    assert findings(text, RNN_MODEL) == ()


@pytest.mark.parametrize(
    "label, places, expected",
    [
        ("hemidiaphragm elevation left side", (), ("left",)),
        ("hemidiaphragm elevation right side", ("diaphragm", "right"), ("diaphragm", "right")),
        ("pleural effusion both sides", ("pleural",), ("pleural", "bilateral")),
        ("hypoexpansion both side", (), ("bilateral",)),
        ("interstitial pattern bilateral", (), ("bilateral",)),
    ],
)
def test_a_side_in_the_label_becomes_a_location(label: str, places: tuple[str, ...], expected: tuple[str, ...]) -> None:
    (finding,) = findings_of([Sentence((label,), places)])
    assert finding.name in VOCABULARY["findings"]
    assert finding.locations == expected


def test_a_side_in_a_label_stays_with_that_label() -> None:
    text = "[['mastectomy left side', 'surgery breast right side', 'loc pectoral']]"
    expected = (Finding("mastectomy", ("pectoral", "left")), Finding("surgery breast", ("pectoral", "right")))
    assert findings(text, PHYSICIAN) == expected


@pytest.mark.parametrize("label", sorted(set(VOCABULARY["findings"]) - STATUSES))
def test_labels_of_the_vocabulary_keep_their_name(label: str) -> None:
    assert findings_of([Sentence((label,), ())]) == (Finding(label),)


names = st.sampled_from(sorted(set(VOCABULARY["findings"]) - STATUSES - {NORMAL}))
places = st.sampled_from(VOCABULARY["locations"])
sentence = st.tuples(st.lists(names, min_size=1, max_size=3), st.lists(places, max_size=3))


@given(st.lists(sentence, max_size=4))
def test_both_formats_say_the_same(sentences: list[tuple[list[str], list[str]]]) -> None:
    located = [(labels, [f"loc {place}" for place in places]) for labels, places in sentences]
    nested = [labels + places for labels, places in located]
    flat = [item for (first, *rest), places in located for item in (first, *(f" {label}" for label in rest), *places)]
    assert parse_sentences(str(nested), PHYSICIAN) == parse_sentences(str(flat), RNN_MODEL)


def test_parse_labels() -> None:
    assert parse_labels("['COPD signs', ' pneumonia', '', 'pneumonia', 'unchanged']") == (
        "copd signs",
        "pneumonia",
        "unchanged",
    )
    assert parse_labels("['']") == ()
    with pytest.raises(DataError, match="Not a PadChest"):
        parse_labels("[['pneumonia']]")


@given(st.lists(st.integers(0, 9_999_999).map("C{:07d}".format)))
def test_cuis_are_read_as_numpy_prints_them(cuis: list[str]) -> None:
    """Without commas, broken into lines."""
    assert parse_cuis(np.array2string(np.array(cuis), threshold=10_000)) == tuple(cuis)


def test_cells_without_cuis() -> None:
    assert parse_cuis("[]") == parse_cuis("['']") == parse_cuis("['XC12345678']") == ()
