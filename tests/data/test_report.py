"""The report format: writing and parsing are inverse, and nothing else parses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xrayexp.data.report import (
    HEADERS,
    NORMAL,
    STATUSES,
    Finding,
    Report,
    ReportError,
    name_spans,
    parse_report,
    write_report,
)

VOCABULARY = json.loads(Path(__file__).with_name("padchest_vocabulary.json").read_text())
NAMES = sorted(set(VOCABULARY["findings"]) - STATUSES - {NORMAL})

EFFUSION = Finding("pleural effusion", ("left", "costophrenic angle"))
CARDIOMEGALY = Finding("cardiomegaly", ("cardiac",))
TWO_FINDINGS = """\
FINDINGS:
- pleural effusion (left, costophrenic angle)
- cardiomegaly (cardiac)

LOCATIONS:
left, costophrenic angle, cardiac

IMPRESSION:
Pleural effusion, cardiomegaly."""
NORMAL_REPORT = """\
FINDINGS:
- normal

LOCATIONS:
none

IMPRESSION:
Normal chest."""

locations = st.lists(st.sampled_from(VOCABULARY["locations"]), max_size=5, unique=True).map(tuple)
findings = st.builds(Finding, st.sampled_from(NAMES), locations)
reportable = st.lists(findings, min_size=1, max_size=20) | st.just([Finding(NORMAL)])


def test_vocabulary_is_padchests() -> None:
    assert len(VOCABULARY["findings"]) == 193
    assert len(VOCABULARY["locations"]) == 104


def test_two_findings() -> None:
    assert write_report([EFFUSION, CARDIOMEGALY]) == TWO_FINDINGS
    assert parse_report(TWO_FINDINGS) == Report((EFFUSION, CARDIOMEGALY))


def test_normal() -> None:
    assert write_report([Finding(NORMAL)]) == NORMAL_REPORT
    assert parse_report(NORMAL_REPORT) == Report((Finding(NORMAL),))


def test_repetitions_are_written_once_and_places_apart() -> None:
    right = Finding("nodule", ("right",))
    left = Finding("nodule", ("left",))
    text = write_report([right, left, right, Finding("scoliosis")])
    assert text.splitlines()[1:4] == ["- nodule (right)", "- nodule (left)", "- scoliosis"]
    assert text.endswith("LOCATIONS:\nright, left\n\nIMPRESSION:\nNodule, scoliosis.")


def test_findings_without_location() -> None:
    assert "LOCATIONS:\nnone\n" in write_report([Finding("scoliosis")])


def test_report_properties() -> None:
    report = Report((EFFUSION, CARDIOMEGALY, Finding("nodule", ("left",)), Finding("kyphosis")))
    assert report.names == {"pleural effusion", "cardiomegaly", "nodule", "kyphosis"}
    assert report.locations == ("left", "costophrenic angle", "cardiac")
    assert report.pairs == {
        ("pleural effusion", "left"),
        ("pleural effusion", "costophrenic angle"),
        ("cardiomegaly", "cardiac"),
        ("nodule", "left"),
    }


@given(reportable)
def test_parsing_undoes_writing(findings: list[Finding]) -> None:
    report = parse_report(write_report(findings))
    assert report is not None
    assert report.findings == tuple(dict.fromkeys(findings))


@pytest.mark.parametrize("name", VOCABULARY["findings"])
def test_every_label_has_a_report_or_is_refused(name: str) -> None:
    finding = Finding(name)
    if name in STATUSES:
        with pytest.raises(ReportError, match=name):
            write_report([finding])
    else:
        assert parse_report(write_report([finding])) == Report((finding,))


text = st.text(max_size=30)


@given(st.builds(Finding, text, st.lists(text, max_size=3).map(tuple)))
@example(Finding("atelectasis\x85basal"))
@example(Finding("- nodule"))
@example(Finding("impression:"))
@example(Finding("nodule", ("none",)))
def test_any_text_is_refused_or_carried_back(finding: Finding) -> None:
    try:
        written = write_report([finding])
    except ReportError:
        return
    assert parse_report(written) == Report((finding,))


@pytest.mark.parametrize(
    "refused, named",
    [
        ([], "at least one finding"),
        ([Finding("unchanged")], "unchanged"),
        ([EFFUSION, Finding("exclude")], "exclude"),
        ([Finding("")], "label ''"),
        ([Finding("Nodule")], "Nodule"),
        ([Finding("nodule ")], "nodule "),
        ([Finding("nod\nule")], r"nod\\nule"),
        ([Finding("nodule (solid)")], r"nodule \(solid\)"),
        ([Finding("nodule", ("",))], "location of 'nodule' ''"),
        ([Finding("nodule", ("Left",))], "Left"),
        ([Finding("nodule", (" left",))], " left"),
        ([Finding("nodule", ("left, basal",))], "left, basal"),
        ([Finding("nodule", ("left)",))], r"left\)"),
        ([Finding("nodule", ("none",))], "none"),
        ([Finding(NORMAL), EFFUSION], "pleural effusion"),
        ([Finding(NORMAL, ("cardiac",))], "cardiac"),
    ],
)
def test_what_cannot_be_reported_is_refused_by_name(refused: list[Finding], named: str) -> None:
    with pytest.raises(ReportError, match=named):
        write_report(refused)


@given(reportable)
def test_a_report_cut_off_anywhere_is_unparseable(findings: list[Finding]) -> None:
    written = write_report(findings)
    assert [end for end in range(len(written)) if parse_report(written[:end]) is not None] == []


@given(st.text())
@example("")
@example("normal")
@example("The chest is normal.")
@example("- normal")
def test_other_text_is_unparseable(text: str) -> None:
    assert parse_report(text) is None


fragments = st.sampled_from([*HEADERS, "- normal", "- nodule (left)", "- ", "none", "Normal chest.", "", "-"])


@given(st.lists(fragments, max_size=12))
@example(NORMAL_REPORT.split("\n"))
def test_what_parses_has_the_structure_and_invents_nothing(lines: list[str]) -> None:
    report = parse_report("\n".join(lines))
    filled = [line for line in lines if line]
    if report is None:
        assert filled != [line for line in NORMAL_REPORT.split("\n") if line]
        return
    assert [line for line in filled if line in HEADERS] == list(HEADERS)
    stated = filled[1 : filled.index("LOCATIONS:")]
    names = {"- normal": "normal", "- nodule (left)": "nodule"}
    assert filled[0] == "FINDINGS:"
    assert report.names == {names[line] for line in stated}


@pytest.mark.parametrize(
    "variant",
    [
        TWO_FINDINGS.replace("\n", "\r\n"),
        f"\n\n  {TWO_FINDINGS}\n\n",
        TWO_FINDINGS.replace(":\n", ":  \n"),
        TWO_FINDINGS.replace("\n\n", "\n"),
        TWO_FINDINGS.replace("pleural effusion (left, costo", "Pleural Effusion  ( Left ,Costo"),
        TWO_FINDINGS.replace("- cardiomegaly", "  -  cardiomegaly"),
        TWO_FINDINGS.replace("- cardiomegaly (cardiac)", "\n".join(["- cardiomegaly (cardiac)"] * 2)),
        f"<unused94>thought\nFINDINGS:\nis it large?<unused95>{TWO_FINDINGS}",
    ],
)
def test_harmless_variants_parse_alike(variant: str) -> None:
    assert variant != TWO_FINDINGS
    assert parse_report(variant) == Report((EFFUSION, CARDIOMEGALY))


@pytest.mark.parametrize(
    "broken",
    [
        f"Here is the report.\n{TWO_FINDINGS}",
        f"<unused94>never ended thinking\n{TWO_FINDINGS}",
        f"Well. <unused94>thought<unused95>{TWO_FINDINGS}",
        f"{TWO_FINDINGS}\n<unused94>thought<unused95>",
        f"{TWO_FINDINGS}\n\n{TWO_FINDINGS}",
        TWO_FINDINGS.replace("FINDINGS:", "Findings:"),
        TWO_FINDINGS.replace("LOCATIONS:\n", "LOCATIONS: "),
        TWO_FINDINGS.replace("LOCATIONS", "LOCATION"),
        TWO_FINDINGS.replace("left, costophrenic angle, cardiac\n", ""),
        TWO_FINDINGS.replace("- cardiomegaly", "cardiomegaly"),
        TWO_FINDINGS.replace("- cardiomegaly", "-cardiomegaly"),
        TWO_FINDINGS.replace("cardiomegaly (cardiac)", "(cardiac)"),
        TWO_FINDINGS.replace("cardiomegaly (cardiac)", "  (cardiac)"),
        TWO_FINDINGS.replace("(cardiac)", "()"),
        TWO_FINDINGS.replace("(cardiac)", "(cardiac"),
        TWO_FINDINGS.replace("(cardiac)", "(cardiac,)"),
        TWO_FINDINGS.replace("(cardiac)", "(cardiac) (aortic)"),
        TWO_FINDINGS.replace("(cardiac)", "(cardiac) enlarged"),
        "FINDINGS:\n\nLOCATIONS:\nnone\n\nIMPRESSION:\nNormal chest.",
        "LOCATIONS:\nnone\n\nFINDINGS:\n- normal\n\nIMPRESSION:\nNormal chest.",
        NORMAL_REPORT.removesuffix("."),
    ],
)
def test_broken_structure_is_unparseable(broken: str) -> None:
    assert broken not in (TWO_FINDINGS, NORMAL_REPORT)
    assert parse_report(broken) is None


def test_only_the_findings_section_states_findings() -> None:
    told = NORMAL_REPORT.replace("none", "cardiac").replace("Normal chest", "Cardiomegaly")
    assert parse_report(told) == Report((Finding(NORMAL),))


def test_where_names_stand() -> None:
    """In the first line that has them, whatever stands around them; nowhere but under FINDINGS."""
    text = (
        "<unused94>FINDINGS:\n- mass\n<unused95>\r\nFINDINGS:\r\n  - Pleural Effusion  ( Left )\n\n- nodule\n"
        "- pleural effusion (right)\n- (left)\nLOCATIONS:\n- left\n\nIMPRESSION:\nPleural effusion, nodule."
    )
    spans = name_spans(text)
    assert {name: text[start:end] for name, (start, end) in spans.items()} == {
        "pleural effusion": "Pleural Effusion",
        "nodule": "nodule",
    }
    assert spans["pleural effusion"][0] == text.index("Pleural Effusion")
    assert name_spans("no report") == {}
