"""Calibration, Brier score and selective precision, against their definitions and scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss

from tests.metrics.report_cases import report_of, with_text
from xrayexp.errors import ConfigError
from xrayexp.metrics.confidence.calibration import CalibrationError
from xrayexp.metrics.confidence.selective import THRESHOLDS
from xrayexp.metrics.registry import metrics_of
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import score

Floats = NDArray[np.float64]

METRICS = metrics_of("confidence")
CLAIMS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.97, 1.0]), st.booleans()), min_size=1)
"""(probability, whether it is true) of every named finding."""


def claimed(confidence: Floats, correct: NDArray[np.bool_]) -> list[ScoredReport]:
    """A report of its own, and a patient, for every claim."""
    nowhere = np.array([9, 9])
    named = report_of(np.array([True, False]), nowhere)
    return [
        replace(
            with_text(report_of(np.array([true, not true]), nowhere), named, f"{i}", f"{i}"),
            confidence={"f0": float(probability), "f1": 0.5},
        )
        for i, (probability, true) in enumerate(zip(confidence, correct, strict=True))
    ]


def scored(reports: list[ScoredReport], **options: Any) -> Scores:
    found = score(reports, METRICS, **{"bootstrap": 0, **options})
    assert not found.left_out
    return found


@settings(deadline=None, max_examples=50)
@given(CLAIMS)
def test_values_equal_their_definitions(claims: list[tuple[float, bool]]) -> None:
    """A probability of something that was not named, of `f1` here, has no part in them."""
    confidence, correct = np.array([p for p, _ in claims]), np.array([true for _, true in claims])
    found = scored(claimed(confidence, correct))
    place = np.minimum(np.floor(confidence * 15), 14)
    inside = [place == one for one in range(15)]
    gaps = [abs(confidence[i].mean() - correct[i].mean()) * i.mean() for i in inside if i.any()]
    assert found.headline("calibration_error") == pytest.approx(sum(gaps), abs=1e-9)
    assert found.headline("brier_score") == pytest.approx(brier_score_loss(correct, confidence, pos_label=True))
    calibration = found.to_json()["calibration"]
    assert calibration["ece"] == pytest.approx(sum(gaps), abs=1e-9)
    assert sum(one["count"] for one in calibration["bins"]) == len(claims)
    assert sum(one["count"] * one["observed"] for one in calibration["bins"]) == pytest.approx(correct.sum())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 100, 400]))
def test_the_surest_are_kept_first(seed: int, number: int) -> None:
    """Different probabilities; with more of them than thresholds, up to the ends of the bins."""
    rng = np.random.default_rng(seed)
    confidence, correct = rng.random(number), rng.random(number) < 0.6
    exactness = 1e-9 if number <= THRESHOLDS else 0.02
    found = scored(claimed(confidence, correct))
    sorted_correct = correct[np.argsort(-confidence)]
    kept = np.arange(1, 21) * number // 20
    precision = np.cumsum(sorted_correct)[kept - 1] / kept
    assert found.headline("selective_precision_80") == pytest.approx(precision[15], abs=exactness)
    assert found.headline("risk_coverage_area") == pytest.approx(1 - precision.mean(), abs=exactness)


def test_findings_that_are_as_often_true_as_they_say_are_calibrated() -> None:
    """Nearly: in each bin chance alone is left, of about the root of p (1 - p) / n."""
    rng = np.random.default_rng(0)
    confidence = rng.random(10_000)
    reports = claimed(confidence, rng.random(10_000) < confidence)
    assert scored(reports).headline("calibration_error") < 0.025
    sure = [replace(report, confidence={"f0": 1.0}) for report in reports]
    assert scored(sure).headline("calibration_error") == pytest.approx(0.5, abs=0.01)


def test_probabilities_that_rank_nothing_gain_nothing() -> None:
    same = claimed(np.full(10, 0.7), np.arange(10) < 6)
    found = scored(same, bootstrap=100)
    assert found.headline("selective_precision_80") == pytest.approx(0.6)
    assert found.headline("risk_coverage_area") == pytest.approx(0.4)
    assert found.estimates["calibration_error"].low <= 0.1 <= found.estimates["calibration_error"].high


def test_samples_tell_of_findings_that_are_not_named() -> None:
    """Where there are any, they count instead of the names' probabilities; what no sample names has 0."""
    [first, second] = claimed(np.array([0.9, 0.9]), np.array([True, False]))  # f0 is named, with 0.9
    reports = [replace(first, sampled={"f1": 0.25}), replace(second, predicted=None, sampled={"f0": 0.5, "f1": 0.75})]
    squares = [(0 - 1) ** 2, 0.25**2, 0.5**2, (0.75 - 1) ** 2]
    assert scored(reports).headline("brier_score") == pytest.approx(np.mean(squares))
    assert scored([first, reports[1]]).headline("brier_score") == pytest.approx(np.mean([0.1**2, *squares[2:]]))
    assert np.isnan(scored([replace(second, predicted=None, sampled={})]).headline("brier_score"))


def test_predictions_without_probabilities_have_no_value_and_say_so() -> None:
    reports = [replace(report, confidence=None) for report in claimed(np.ones(3), np.ones(3, dtype=bool))]
    found = scored(reports, bootstrap=10)
    for estimate in found.estimates.values():
        assert np.isnan(estimate.value)
        assert estimate.reason == "no named finding has a probability"
    assert "calibration" not in found.to_json()


@pytest.mark.parametrize("bins", [1, 2.5, True])
def test_bins_are_checked(bins: Any) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        CalibrationError(bins)
