"""Scores of reports: by hand, what holds for any, and that one metric's failure is nobody else's."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.metrics.report_cases import pair, random_reports, structured
from xrayexp.checks import Check
from xrayexp.data.report import Finding, Report
from xrayexp.metrics.base import Definition, Fixed, Metric, Sums
from xrayexp.metrics.bootstrap import by_patient
from xrayexp.metrics.formulas import means
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.samples import ScoredReport, per_sample
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import missing, score
from xrayexp.metrics.structured.matches import Matches


def structured_metrics(
    reports: Sequence[ScoredReport], bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Scores:
    return score(reports, structured(), bootstrap=bootstrap, confidence=confidence, seed=seed)


def tiny(truth: str, predicted: str | None, patient: str = "p", image: str = "i") -> ScoredReport:
    """Finding names, separated by blanks."""
    return pair(truth.replace(" ", ","), None if predicted is None else predicted.replace(" ", ","), image, patient)


def mean_of(reports: Sequence[ScoredReport], name: str) -> float:
    values = [value for report in reports if (value := per_sample(report)[name]) is not None]
    return sum(values) / len(values)


def test_the_corpus_scores_are_the_means_of_the_sample_scores() -> None:
    reports = random_reports(200, 70, findings=9)
    metrics = structured_metrics(reports, bootstrap=0)
    matches = ("exact_match", "exact_match_located", "strict_match", "strict_match_jaccard", "soft_match",
               "soft_match_jaccard")  # fmt: skip
    for name in matches:
        assert metrics.headline(name) == pytest.approx(mean_of(reports, name))
    for name in ("precision", "recall", "f1"):  # what is undefined for a report counts 0
        values = [per_sample(report)[name] or 0.0 for report in reports]
        assert metrics.headline(f"samples_{name}") == pytest.approx(np.mean(values))
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
    report_set = ReportSet(reports)
    measured = {metric: metric.measure(report_set) for metric in structured() if metric.name != "bands"}
    generator = np.random.default_rng(5)
    for _ in range(5):
        times = np.bincount(generator.integers(25, size=25), minlength=25)
        written_out = [
            replace(report, image_id=f"{report.image_id}, copy {copy}")
            for report in reports
            for copy in range(times[report_set.patients.index(report.patient_id)])
        ]
        plain = structured_metrics(written_out, bootstrap=0)
        for metric, sums in measured.items():
            assert isinstance(sums, Sums)
            values = sums.formula(times @ by_patient(sums.table, report_set.patient_of, 25))
            names = [definition.name for definition in metric.definitions]
            assert values == pytest.approx([plain.headline(name) for name in names], nan_ok=True), metric.name


def interval_widths(metrics: Scores) -> NDArray[np.float64]:
    return np.array([estimate.high - estimate.low for estimate in metrics.estimates.values()])


def existing(widths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the values that these findings do not have, or that cannot change."""
    return widths[widths > 0]


def test_more_images_of_the_same_patients_do_not_shrink_the_interval() -> None:
    reports = random_reports(150, 150, findings=8)
    more_images = reports + [replace(report, image_id=f"{report.image_id}b") for report in reports]
    more_patients = reports + [
        replace(report, image_id=f"{report.image_id}b", patient_id=f"{report.patient_id}b") for report in reports
    ]
    width, same, smaller = (
        existing(interval_widths(structured_metrics(sample))) for sample in (reports, more_images, more_patients)
    )
    assert same == pytest.approx(width, abs=1e-6)
    assert (smaller < 0.85 * width).all()  # 1 / sqrt(2) but for chance


def test_the_interval_holds_the_value_and_narrows_with_the_confidence() -> None:
    reports = random_reports(150, 60, findings=6)
    wide = structured_metrics(reports, confidence=0.99)
    narrow = structured_metrics(reports, confidence=0.5)
    varying = {name: estimate for name, estimate in wide.estimates.items() if estimate.high > estimate.low}
    assert len(varying) > 35
    for name, estimate in varying.items():
        assert estimate.low < estimate.value < estimate.high, name
        assert estimate.note == ""
    assert (existing(interval_widths(narrow)) < existing(interval_widths(wide))).all()


def test_the_same_seed_gives_the_same_result_in_any_order() -> None:
    reports = random_reports(100, 40, findings=6)
    first = structured_metrics(reports, bootstrap=200, seed=1)
    assert structured_metrics(reports[::-1], bootstrap=200, seed=1).to_json() == first.to_json()
    other = structured_metrics(reports, bootstrap=200, seed=2)
    ours, theirs = (found.to_json()["metrics"] for found in (first, other))
    assert ours != theirs
    assert {name: one["value"] for name, one in ours.items()} == {name: one["value"] for name, one in theirs.items()}


def test_without_bootstrap_there_are_the_same_values_and_no_intervals() -> None:
    reports = random_reports(100, 40, findings=6)
    plain, full = structured_metrics(reports, bootstrap=0), structured_metrics(reports)
    for name, estimate in plain.estimates.items():
        assert estimate.value == pytest.approx(full.headline(name), nan_ok=True)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
        assert (estimate.reason == "") == (not math.isnan(estimate.value))


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
    names = [definition.name for metric in structured() for definition in metric.definitions]
    assert list(document["metrics"]) == names == list(document["definitions"])
    assert document["left_out"] == {}
    assert len(document["chexpert"]) == 14
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


class Broken(Metric):
    """Other people's code on a bad day."""

    name: ClassVar[str] = "broken"
    definitions: tuple[Definition, ...] = ()

    def __init__(self, place: str) -> None:
        self.place = place

    def unavailable(self) -> Check | None:
        if self.place == "unavailable":
            raise OSError("no such disk")
        return None

    def measure(self, reports: ReportSet) -> Sums | Fixed:
        if self.place == "measure":
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore of it")
        rows = 1 if self.place == "rows" else len(reports)
        return Sums(np.ones((rows, 2)), self._formula)

    def _formula(self, sums: NDArray[np.floating]) -> NDArray[np.floating]:
        if self.place == "formula":
            raise ZeroDivisionError("division by zero")
        return sums  # two values for no definition


@pytest.mark.parametrize(
    "place, reason",
    [
        ("unavailable", "OSError: no such disk"),
        ("measure", "RuntimeError: CUDA error: an illegal memory access was encountered"),
        ("rows", "ValueError: broken has 1 rows for 3 reports"),
        ("formula", "ZeroDivisionError"),
        ("values", "ValueError: 2 values for 0 definitions"),
    ],
)
def test_a_metric_that_fails_takes_nothing_with_it(place: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    reports = [tiny("a b", "a", patient=i, image=i) for i in "xyz"]
    caplog.set_level(logging.DEBUG, logger="xrayexp.metrics")
    scores = score(reports, [Matches(), Broken(place), *structured()[1:]])
    assert scores.estimates.keys() == structured_metrics(reports).estimates.keys()
    [left_out] = scores.left_out
    assert left_out.metric == "broken"
    assert reason in left_out.reason
    assert scores.to_json()["left_out"]["broken"]["reason"] == left_out.reason
    warning, debug = caplog.records
    assert reason in warning.getMessage()
    assert debug.exc_info is not None  # the traceback, for those who look for it


def test_ctrl_c_is_no_failure_of_a_metric() -> None:
    class Interrupted(Broken):
        def measure(self, reports: ReportSet) -> Sums | Fixed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score([tiny("a", "a")], [Interrupted("")])


class Weightless(Matches):
    """A metric whose weights are not on this machine."""

    name: ClassVar[str] = "weightless"

    def unavailable(self) -> Check | None:
        return Check("weights", "missing", "/cache/chexbert.pth is not there", "xrayexp data fetch-metrics")

    def measure(self, reports: ReportSet) -> Sums:
        raise AssertionError("nothing is loaded that is known to be missing")


def test_a_metric_without_its_weights_is_left_out_with_the_command_that_fetches_them() -> None:
    scores = score([tiny("a", "a")], [Weightless(), structured()[-1]])
    [left_out] = scores.left_out
    assert missing([Weightless(), *structured()]) == [left_out]
    assert scores.to_json()["left_out"] == {
        "weightless": {"reason": "weights: /cache/chexbert.pth is not there", "fix": "xrayexp data fetch-metrics"}
    }
    assert "exact_match" not in scores.estimates  # and not 0
    assert [finding.name for finding in scores.findings] == ["a"]


class Lengths(Metric):
    """One value that is no sum, and one that does not exist."""

    name: ClassVar[str] = "lengths"
    wraps = "numpy 2.4"
    definitions: tuple[Definition, ...] = tuple(
        Definition(
            name=name, title=name, averages_over="texts", definition="", weakness="", caution="", undefined="no text"
        )
        for name in ("median_length", "nothing")
    )

    def measure(self, reports: ReportSet) -> Fixed:
        lengths = [len(report.truth_text) for report in reports.reports]
        return Fixed(np.array([np.median(lengths), np.nan]), "no interval: it is a median")


def test_a_value_that_is_no_sum_has_no_interval_and_says_why() -> None:
    scores = score([tiny("a", "a"), tiny("b", "b", image="j")], [Lengths()])
    found = scores.to_json()["metrics"]
    assert scores.to_json()["definitions"]["nothing"]["wraps"] == "numpy 2.4"
    assert found["median_length"]["reason"] == "no interval: it is a median"
    assert found["median_length"]["value"] > 40
    assert found["nothing"] == {"value": None, "low": None, "high": None, "reason": "no text"}


def test_fractions_have_intervals_too() -> None:
    """Columns need not be counts: those of text metrics are not."""

    class Fractions(Lengths):
        definitions: tuple[Definition, ...] = Lengths.definitions[:1]

        def measure(self, reports: ReportSet) -> Sums:  # type: ignore[override]
            return Sums(np.array([[0.1, 1.0], [0.7, 1.0], [0.3, 1.0], [0.31, 1.0]]), means)

    reports = [tiny("a", "a", patient=i, image=i) for i in "wxyz"]
    [estimate] = score(reports, [Fractions()]).estimates.values()
    assert estimate.value == pytest.approx(0.3525)
    assert 0.1 <= estimate.low < 0.3 < 0.4 < estimate.high <= 0.7


def test_truth_and_prediction_cannot_be_swapped_unnoticed() -> None:
    with pytest.raises(TypeError):
        ScoredReport("image", "patient", Report(()), Report((Finding("a"),)))  # type: ignore[call-arg]
