"""The structured scores against scikit-learn's and torchmetrics', on any multi-label data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torchmetrics.functional.classification import multilabel_exact_match, multilabel_f1_score

from tests.metrics.report_cases import MULTI_HOT, Bools, from_multi_hot, structured
from xrayexp.metrics.scoring import score

AVERAGES = ("micro", "macro", "weighted", "samples")


@settings(max_examples=40, deadline=None)
@given(MULTI_HOT)
def test_every_average_equals_scikit_learns(multi_hot: tuple[Bools, Bools]) -> None:
    """Where theirs is 0 by decree (0 / 0), ours is NaN. Their macro average is asked for the labels that are true."""
    truth, named = multi_hot
    scores = score(from_multi_hot(truth, named), structured(), bootstrap=0)
    supported = np.flatnonzero(truth.any(axis=0))
    for average in AVERAGES:
        if average == "macro" and not len(supported):
            continue
        labels = supported if average == "macro" else None
        theirs = precision_recall_fscore_support(truth, named, average=average, labels=labels, zero_division=0)[:3]
        ours = [scores.headline(f"{average}_{name}") for name in ("precision", "recall", "f1")]
        assert np.nan_to_num(ours) == pytest.approx(theirs), average
    assert scores.headline("exact_match") == pytest.approx(accuracy_score(truth, named))


@settings(max_examples=40, deadline=None)
@given(MULTI_HOT)
def test_every_finding_equals_scikit_learns(multi_hot: tuple[Bools, Bools]) -> None:
    truth, named = multi_hot
    found = {f.name: f for f in score(from_multi_hot(truth, named), structured(), bootstrap=0).findings}
    theirs = precision_recall_fscore_support(truth, named, zero_division=0)
    for index, (precision, recall, f1, support) in enumerate(np.stack(theirs, axis=1)):
        if f"f{index}" not in found:
            assert not truth[:, index].any()
            assert not named[:, index].any()
            continue
        finding = found[f"f{index}"]
        ours = (finding.precision, finding.recall, finding.f1.value)
        assert np.nan_to_num(ours) == pytest.approx((precision, recall, f1))
        assert finding.support == support
        assert finding.predicted == named[:, index].sum()


@settings(max_examples=20, deadline=None)
@given(MULTI_HOT)
def test_torchmetrics_agrees(multi_hot: tuple[Bools, Bools]) -> None:
    truth, named = multi_hot
    scores = score(from_multi_hot(truth, named), structured(), bootstrap=0)
    target, predicted, labels = torch.from_numpy(truth).int(), torch.from_numpy(named).int(), truth.shape[1]
    micro = multilabel_f1_score(predicted, target, labels, average="micro", zero_division=0)
    assert np.nan_to_num(scores.headline("micro_f1")) == pytest.approx(float(micro), abs=1e-6)
    exact = multilabel_exact_match(predicted, target, labels)
    assert scores.headline("exact_match") == pytest.approx(float(exact), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(MULTI_HOT)
def test_a_value_is_missing_exactly_where_it_would_be_zero_by_zero(multi_hot: tuple[Bools, Bools]) -> None:
    truth, named = multi_hot
    scores = score(from_multi_hot(truth, named), structured(), bootstrap=20)
    found = {name for name, estimate in scores.estimates.items() if math.isnan(estimate.value)}
    rows = {
        "no true": ("macro", "weighted"),
        "either": ("micro", "hierarchical", "relevance"),
        "never": ("pair", "urgent", "middle", "tail", "chexpert5_micro", "chexpert5_macro"),  # of f0, f1, ...
    }
    parts = ("precision", "recall", "f1")
    expected = {f"{row}_{part}" for row in rows["never"] for part in parts}
    if not truth.any():
        expected |= {f"{row}_{part}" for row in (*rows["no true"], "head") for part in parts}
        expected |= {f"{row}_recall" for row in rows["either"]} | {"omission_rate", "exact_match_recall"}
        expected |= {"strict_match", "strict_match_jaccard", "soft_match", "soft_match_jaccard"}
    if not named.any():
        expected |= {f"{row}_precision" for row in rows["either"]}
    if not (truth.any() or named.any()):
        expected |= {f"{row}_f1" for row in rows["either"]}
    assert {name for name in found if not name.startswith("chexpert14")} == expected
    assert all(scores.estimates[name].reason for name in found)
