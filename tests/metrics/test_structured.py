from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torchmetrics.functional.classification import (
    multilabel_exact_match,
    multilabel_f1_score,
    multilabel_precision,
    multilabel_recall,
)

from xrayexp.data.report import Finding, Report
from xrayexp.metrics.counts import Counts, count_by_patient
from xrayexp.metrics.definitions import HEADLINE
from xrayexp.metrics.structured import ScoredReport, StructuredMetrics, per_sample, structured_metrics

Bools = NDArray[np.bool_]
PLACES = ("left", "right", "pleural")


def report_of(names: Bools, places: NDArray[np.integer]) -> Report:
    """The findings f0, f1, ... that are marked, each with its place (or none)."""
    return Report(
        tuple(
            Finding(f"f{index}", (PLACES[place],) if place < len(PLACES) else ())
            for index, (named, place) in enumerate(zip(names, places, strict=True))
            if named
        )
    )


def random_reports(images: int, patients: int, findings: int, seed: int = 0) -> list[ScoredReport]:
    """Reports with rare and common findings, mostly right; each patient has at least one."""
    generator = np.random.default_rng(seed)
    truth = generator.random((images, findings)) < 0.6 / np.arange(1, findings + 1)
    truth[:, 0] |= ~truth.any(axis=1)
    named = truth ^ (generator.random(truth.shape) < 0.1)
    places = generator.integers(len(PLACES) + 1, size=truth.shape)
    guessed = np.where(generator.random(truth.shape) < 0.8, places, 0)
    return [
        ScoredReport(
            image_id=f"image {index}",
            patient_id=f"patient {index % patients}",
            truth=report_of(truth[index], places[index]),
            predicted=report_of(named[index], guessed[index]) if index % 11 else None,
        )
        for index in range(images)
    ]


def from_multi_hot(truth: Bools, named: Bools) -> list[ScoredReport]:
    nowhere = np.full(truth.shape[1], len(PLACES))
    return [
        ScoredReport(str(i), str(i), report_of(truth[i], nowhere), report_of(named[i], nowhere))
        for i in range(len(truth))
    ]


def mean_of(reports: Sequence[ScoredReport], name: str) -> float:
    values = [value for report in reports if (value := per_sample(report)[name]) is not None]
    return sum(values) / len(values)


def tiny(truth: str, predicted: str | None, patient: str = "p", image: str = "i") -> ScoredReport:
    """Finding names, separated by blanks."""
    true = Report(tuple(Finding(name) for name in truth.split()))
    named = None if predicted is None else Report(tuple(Finding(name) for name in predicted.split()))
    return ScoredReport(image, patient, true, named)


MULTI_HOT = st.tuples(st.integers(1, 30), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(arrays.arrays(bool, shape), arrays.arrays(bool, shape))
)


TORCHMETRICS = {"precision": multilabel_precision, "recall": multilabel_recall, "f1": multilabel_f1_score}


@settings(max_examples=60, deadline=None)
@given(MULTI_HOT)
def test_the_micro_scores_and_exact_match_equal_those_of_torchmetrics(multi_hot: tuple[Bools, Bools]) -> None:
    truth, named = multi_hot
    metrics = structured_metrics(from_multi_hot(truth, named), bootstrap=0)
    target, predicted, labels = torch.from_numpy(truth).int(), torch.from_numpy(named).int(), truth.shape[1]
    for name, score in TORCHMETRICS.items():
        # Where theirs is 0 by decree (0 / 0), ours is NaN; the next test says where.
        ours = metrics.headline(f"micro_{name}")
        theirs = score(predicted, target, labels, average="micro", zero_division=0)
        assert np.nan_to_num(ours) == pytest.approx(float(theirs), abs=1e-6)
    exact = multilabel_exact_match(predicted, target, labels)
    assert metrics.headline("exact_match") == pytest.approx(float(exact), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(MULTI_HOT)
def test_the_scores_per_finding_and_macro_equal_those_of_torchmetrics(multi_hot: tuple[Bools, Bools]) -> None:
    truth, named = multi_hot
    metrics = structured_metrics(from_multi_hot(truth, named), bootstrap=0)
    target, predicted, labels = torch.from_numpy(truth).int(), torch.from_numpy(named).int(), truth.shape[1]
    supported = [index for index in range(labels) if truth[:, index].any()]
    findings = {finding.name: finding for finding in metrics.findings}
    for name, score in TORCHMETRICS.items():
        theirs = score(predicted, target, labels, average="none", zero_division=0)[supported].tolist()
        scores = [getattr(findings[f"f{index}"], name) for index in supported]
        ours = [score.value if name == "f1" else score for score in scores]
        assert np.nan_to_num(ours) == pytest.approx(theirs, abs=1e-6)
        if supported:
            assert metrics.headline(f"macro_{name}") == pytest.approx(np.mean(theirs), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(MULTI_HOT)
def test_a_value_is_missing_exactly_where_it_would_be_zero_by_zero(multi_hot: tuple[Bools, Bools]) -> None:
    truth, named = multi_hot
    metrics = structured_metrics(from_multi_hot(truth, named), bootstrap=20)
    missing = {name for name, estimate in metrics.estimates.items() if math.isnan(estimate.value)}
    expected = {"pair_precision", "pair_recall", "pair_f1"}  # no finding has a location here
    if not truth.any():
        expected |= {"soft_match", "soft_match_jaccard", "micro_recall"}
        expected |= {"macro_precision", "macro_recall", "macro_f1"}
    if not named.any():
        expected |= {"micro_precision"}
    if not (truth.any() or named.any()):
        expected |= {"micro_f1"}
    assert missing == expected
    assert all(metrics.estimates[name].reason for name in missing)


def test_the_corpus_scores_are_the_means_of_the_sample_scores() -> None:
    reports = random_reports(200, 70, findings=9)
    metrics = structured_metrics(reports, bootstrap=0)
    for name in ("exact_match", "exact_match_located", "soft_match", "soft_match_jaccard"):
        assert metrics.headline(name) == pytest.approx(mean_of(reports, name))
    assert metrics.headline("unparseable_rate") == pytest.approx(mean_of(reports, "unparseable"))
    assert 0 < metrics.headline("exact_match_located") < metrics.headline("exact_match") < 1


def test_the_location_scores_count_pairs() -> None:
    reports = random_reports(200, 70, findings=9)
    true = [(r.image_id, *pair) for r in reports for pair in r.truth.pairs]
    named = [(r.image_id, *pair) for r in reports if r.predicted for pair in r.predicted.pairs]
    correct = len(set(true) & set(named))
    metrics = structured_metrics(reports, bootstrap=0)
    assert metrics.headline("pair_precision") == pytest.approx(correct / len(named))
    assert metrics.headline("pair_recall") == pytest.approx(correct / len(true))
    assert metrics.headline("pair_f1") == pytest.approx(2 * correct / (len(named) + len(true)))


def test_a_perfect_prediction_scores_best_and_silence_worst() -> None:
    reports = random_reports(60, 30, findings=6)
    perfect = structured_metrics([replace(r, predicted=r.truth) for r in reports], bootstrap=0)
    silent = structured_metrics([replace(r, predicted=None) for r in reports], bootstrap=0)
    for metric in HEADLINE:
        if metric.direction == "neither":
            continue
        best = 1.0 if metric.direction == "higher" else 0.0
        assert perfect.headline(metric.name) == best
        if metric.name not in ("micro_precision", "pair_precision"):  # nothing named: undefined
            assert silent.headline(metric.name) == 1 - best


def test_naming_everything_wins_the_soft_match_and_nothing_else() -> None:
    names = [f"f{index}" for index in range(12)]
    everything = Report(tuple(Finding(name) for name in names))
    reports = [replace(r, predicted=everything) for r in random_reports(60, 30, findings=12)]
    metrics = structured_metrics(reports, bootstrap=0)
    assert metrics.headline("soft_match") == 1.0
    assert metrics.headline("soft_match_jaccard") < 0.1
    assert metrics.headline("micro_f1") < 0.5
    assert metrics.headline("mean_findings_named") == 12


def test_an_unparseable_prediction_costs_recall_and_is_counted() -> None:
    metrics = structured_metrics([tiny("normal", "normal", image="a"), tiny("normal", None, image="b")], bootstrap=0)
    assert metrics.headline("unparseable_rate") == 0.5
    assert metrics.headline("exact_match") == 0.5
    assert metrics.headline("micro_recall") == 0.5
    assert metrics.headline("micro_precision") == 1.0


def test_each_finding_has_its_support_and_what_is_never_true_is_shown() -> None:
    reports = [
        tiny("nodule mass", "nodule", image="1"),
        tiny("nodule", "mass", image="2"),
        tiny("nodule", "nodule ghost", image="3"),
        tiny("scoliosis", "nodule", image="4"),
    ]
    metrics = structured_metrics(reports, bootstrap=0)
    rows = [(f.name, f.support, f.predicted, f.f1.value) for f in metrics.findings]
    assert rows == [
        ("nodule", 3, 3, pytest.approx(2 / 3)),
        ("mass", 1, 1, 0.0),
        ("scoliosis", 1, 0, 0.0),
        ("ghost", 0, 1, 0.0),
    ]
    _, _, scoliosis, ghost = metrics.findings
    assert math.isnan(scoliosis.precision)
    assert scoliosis.recall == 0.0
    assert math.isnan(ghost.recall)
    # Over the three true findings: silence about scoliosis counts as precision 0, the ghost not at all.
    assert metrics.headline("macro_precision") == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert metrics.headline("micro_precision") == pytest.approx(2 / 5)


def test_a_resample_scores_like_the_same_reports_written_out() -> None:
    """The weighted sums behind the intervals against the plain scores of repeated reports."""
    reports = random_reports(80, 25, findings=30)  # some so rare that resamples lack them
    patients = sorted({report.patient_id for report in reports})
    table = count_by_patient(reports).counts.table
    generator = np.random.default_rng(5)
    for _ in range(10):
        times = np.bincount(generator.integers(len(patients), size=len(patients)), minlength=len(patients))
        written_out = [
            replace(report, image_id=f"{report.image_id}, copy {copy}")
            for report in reports
            for copy in range(times[patients.index(report.patient_id)])
        ]
        plain = structured_metrics(written_out, bootstrap=0)
        for metric in HEADLINE:
            value = float(metric.formula(Counts(times @ table)))
            assert value == pytest.approx(plain.headline(metric.name)), metric.name


def interval_widths(metrics: StructuredMetrics) -> NDArray[np.float64]:
    return np.array([estimate.high - estimate.low for estimate in metrics.estimates.values()])


def test_more_images_of_the_same_patients_do_not_shrink_the_interval() -> None:
    reports = random_reports(150, 150, findings=8)
    more_images = reports + [replace(report, image_id=f"{report.image_id}b") for report in reports]
    more_patients = reports + [
        replace(report, image_id=f"{report.image_id}b", patient_id=f"{report.patient_id}b") for report in reports
    ]
    width, same, smaller = (
        interval_widths(structured_metrics(sample)) for sample in (reports, more_images, more_patients)
    )
    assert same == pytest.approx(width, abs=1e-6)
    assert (smaller < 0.85 * width).all()  # 1 / sqrt(2) but for chance


def test_the_interval_holds_the_value_and_narrows_with_the_confidence() -> None:
    reports = random_reports(150, 60, findings=6)
    wide = structured_metrics(reports, confidence=0.99)
    narrow = structured_metrics(reports, confidence=0.5)
    for name, estimate in wide.estimates.items():
        assert estimate.low < estimate.value < estimate.high, name
    assert (interval_widths(narrow) < interval_widths(wide)).all()


def test_the_same_seed_gives_the_same_result_in_any_order() -> None:
    reports = random_reports(100, 40, findings=6)
    first = structured_metrics(reports, bootstrap=200, seed=1)
    assert structured_metrics(reports[::-1], bootstrap=200, seed=1).to_json() == first.to_json()
    other = structured_metrics(reports, bootstrap=200, seed=2)
    assert other.estimates != first.estimates
    assert {n: e.value for n, e in other.estimates.items()} == {n: e.value for n, e in first.estimates.items()}


def test_without_bootstrap_there_are_the_same_values_and_no_intervals() -> None:
    reports = random_reports(100, 40, findings=6)
    plain, full = structured_metrics(reports, bootstrap=0), structured_metrics(reports)
    for name, estimate in plain.estimates.items():
        assert estimate.value == full.headline(name)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
        assert estimate.reason == ""


def test_one_patient_has_no_interval() -> None:
    metrics = structured_metrics([tiny("a", "a", image="1"), tiny("b", "a", image="2")])
    estimate = metrics.estimates["exact_match"]
    assert estimate.value == 0.5
    assert math.isnan(estimate.low)
    assert "two patients" in estimate.reason
    assert all(math.isnan(finding.f1.low) for finding in metrics.findings)


def test_a_finding_of_one_patient_has_no_interval() -> None:
    """A third of the resamples lack it, and the others all agree: an interval from 1 to 1 would boast."""
    reports = [tiny("normal", "normal", patient=str(i), image=str(i)) for i in range(50)]
    reports.append(tiny("nodule", "nodule", patient="last", image="last"))
    normal, nodule = structured_metrics(reports).findings
    assert normal.f1.low == 1.0
    assert nodule.f1.value == 1.0
    assert math.isnan(nodule.f1.low)
    assert "undefined in over 5%" in nodule.f1.reason


def test_no_report_scores_nothing() -> None:
    metrics = structured_metrics([])
    assert all(math.isnan(estimate.value) and estimate.reason for estimate in metrics.estimates.values())
    assert metrics.findings == ()


def test_reports_without_any_true_finding_do_not_break_the_bootstrap() -> None:
    metrics = structured_metrics([tiny("", "a", patient=p, image=p) for p in "xyz"], bootstrap=50)
    assert math.isnan(metrics.headline("soft_match"))
    assert metrics.headline("exact_match") == 0.0
    assert metrics.headline("micro_precision") == 0.0


def test_metrics_json_is_strict_and_complete() -> None:
    reports = [*random_reports(40, 20, findings=5), tiny("scoliosis", "[ghost]", image="x")]
    document = json.loads(json.dumps(structured_metrics(reports, bootstrap=50, seed=7).to_json(), allow_nan=False))
    assert (document["images"], document["patients"]) == (41, 21)
    assert (document["confidence"], document["bootstrap"], document["seed"]) == (0.95, 50, 7)
    assert list(document["metrics"]) == [metric.name for metric in HEADLINE] == list(document["definitions"])
    assert all({"value", "low", "high"} <= entry.keys() for entry in document["metrics"].values())
    assert "recall only" in document["definitions"]["soft_match"]["weakness"]
    ghost = document["findings"]["[ghost]"]
    assert (ghost["support"], ghost["predicted"], ghost["recall"]) == (0, 1, None)
    assert ghost["f1"] == {"value": 0.0, "low": None, "high": None, "reason": ghost["f1"]["reason"]}


def test_the_headline_of_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"'bleu'.*soft_match_jaccard"):
        structured_metrics([tiny("a", "a")], bootstrap=0).headline("bleu")


def test_an_image_is_scored_once() -> None:
    with pytest.raises(ValueError, match="image i is scored 2 times"):
        structured_metrics([tiny("a", "a"), tiny("a", "b")])


@pytest.mark.parametrize("arguments", [{"bootstrap": -1}, {"confidence": 0.0}, {"confidence": 95}])
def test_impossible_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        structured_metrics([tiny("a", "a")], **arguments)  # type: ignore[arg-type]


def test_a_test_set_is_scored_in_well_under_a_second() -> None:
    reports = random_reports(500, 300, findings=200)
    start = time.process_time()
    structured_metrics(reports)
    assert time.process_time() - start < 1.0  # 0.1 s on one slow core
