from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.report import Finding, Report
from xrayexp.metrics.samples import ScoredReport, per_sample

FINDINGS = st.builds(
    Finding,
    st.sampled_from(["normal", "nodule", "cardiomegaly", "pleural effusion", "scoliosis"]),
    st.lists(st.sampled_from(["left", "right", "pleural"]), max_size=2, unique=True).map(tuple),
)
REPORTS = st.lists(FINDINGS, min_size=1, max_size=5).map(lambda findings: Report(tuple(findings)))


def report(text: str) -> Report:
    """'nodule left pleural, cardiomegaly' as a Report; the first word of each part is the finding."""
    parts = [part.split() for part in text.split(",") if part.strip()]
    return Report(tuple(Finding(name, tuple(locations)) for name, *locations in parts))


def scores(truth: Report, predicted: Report | None) -> dict[str, float | bool | None]:
    return per_sample(ScoredReport(image_id="i", patient_id="p", truth=truth, predicted=predicted))


@pytest.mark.parametrize(
    "truth, predicted, expected",
    [
        ("nodule left, mass", "mass, nodule left", {"exact_match": True, "exact_match_located": True}),
        ("nodule left", "nodule right", {"exact_match": True, "exact_match_located": False, "pair_f1": 0.0}),
        ("nodule left", "nodule", {"exact_match": True, "exact_match_located": False}),
        # One finding on two sides is two lines, not one line with two sides.
        ("nodule left, nodule right", "nodule left right", {"exact_match_located": False, "pair_f1": 1.0}),
        ("nodule left, nodule left", "nodule left", {"exact_match_located": True, "f1": 1.0}),
        ("nodule left right", "nodule right left", {"exact_match_located": True}),
        ("a, b", "a", {"soft_match": True, "soft_match_jaccard": True, "recall": 0.5, "precision": 1.0}),
        ("a", "a, b", {"soft_match": True, "soft_match_jaccard": True, "jaccard": 0.5}),
        ("a", "a, b, c", {"soft_match": True, "soft_match_jaccard": False, "precision": 1 / 3, "f1": 0.5}),
        ("a, b, c", "a", {"soft_match": False, "soft_match_jaccard": False, "recall": 1 / 3}),
        ("a", "b", {"soft_match": False, "soft_match_jaccard": False, "f1": 0.0, "pair_f1": None}),
        ("normal", "normal", {"exact_match": True, "soft_match": True, "pair_f1": None}),
        ("normal", "nodule", {"exact_match": False, "soft_match": False, "recall": 0.0}),
    ],
)
def test_scores_of_one_report(truth: str, predicted: str, expected: dict[str, float | bool | None]) -> None:
    actual = scores(report(truth), report(predicted))
    assert {name: actual[name] for name in expected} == pytest.approx(expected)


def test_an_unparseable_prediction_names_nothing_not_even_normal() -> None:
    assert scores(report("normal"), None) == {
        "exact_match": False,
        "exact_match_located": False,
        "strict_match": False,
        "strict_match_jaccard": False,
        "soft_match": False,
        "soft_match_jaccard": False,
        "precision": None,
        "recall": 0.0,
        "f1": 0.0,
        "jaccard": 0.0,
        "pair_f1": None,
        "unparseable": True,
    }


def test_soft_match_is_undefined_without_a_true_finding() -> None:
    for predicted in (Report(()), report("a"), None):
        actual = scores(Report(()), predicted)
        assert actual["soft_match"] is None
        assert actual["soft_match_jaccard"] is None
    assert scores(Report(()), None)["exact_match"] is False


@given(REPORTS)
def test_a_perfect_prediction_scores_best(truth: Report) -> None:
    pair_f1 = 1.0 if truth.pairs else None
    perfect = {"soft_match": True, "precision": 1.0, "f1": 1.0, "pair_f1": pair_f1, "unparseable": False}
    actual = scores(truth, truth)
    assert {name: actual[name] for name in perfect} == perfect
    assert actual["exact_match_located"] is True


@given(REPORTS, REPORTS, st.randoms(use_true_random=False))
def test_the_order_of_findings_is_irrelevant(truth: Report, predicted: Report, random: Random) -> None:
    shuffled = list(predicted.findings)
    random.shuffle(shuffled)
    assert scores(truth, Report(tuple(shuffled))) == scores(truth, predicted)


@given(REPORTS, st.none() | REPORTS)
def test_the_scores_are_strict_json(truth: Report, predicted: Report | None) -> None:
    actual = scores(truth, predicted)
    assert json.loads(json.dumps(actual, allow_nan=False)) == actual


@given(REPORTS, REPORTS)
def test_the_jaccard_match_is_never_easier_than_the_soft_match(truth: Report, predicted: Report) -> None:
    actual = scores(truth, predicted)
    assert actual["soft_match"] or not actual["soft_match_jaccard"]
