"""The text metrics of `metrics=clinical`: the packages' own figures, promises, labels, and what is left out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.clinical.standins import PAIRS, TEXTS
from xrayexp.data.report import Finding, Report
from xrayexp.errors import ConfigError
from xrayexp.metrics.base import Invariant, Metric
from xrayexp.metrics.clinical.bleu import Bleu
from xrayexp.metrics.clinical.chexbert_f1 import ChexbertF1
from xrayexp.metrics.clinical.chexbert_package import LABELS, ChexbertRows, chexbert_rows
from xrayexp.metrics.clinical.radgraph_f1 import RadGraphF1
from xrayexp.metrics.clinical.rouge import RougeL
from xrayexp.metrics.registry import metrics_of
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import score

NORMAL = Report((Finding("normal"),))
CLINICAL = metrics_of("clinical")
WORDS = ("no", "the", "heart", "lung", "is", "clear", "normal", ".", ",", "effusion")
words = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=6)


def scored(pairs: list[tuple[str, str]], *metrics: Metric, bootstrap: int = 0) -> Scores:
    """The scores of truths and predictions, a patient each."""
    reports = [
        ScoredReport(
            image_id=f"{number}.png",
            patient_id=str(number),
            truth=NORMAL,
            predicted=None,
            truth_text=truth,
            predicted_text=predicted,
        )
        for number, (truth, predicted) in enumerate(pairs)
    ]
    return score(reports, metrics or CLINICAL, bootstrap=bootstrap)


def test_radgraph_f1_is_the_package_s(use_standins: Path, goldens: dict[str, Any]) -> None:
    for model, golden in goldens["radgraph"].items():
        found = scored(list(PAIRS), RadGraphF1(model, device="cpu")).estimates
        values = [found[f"radgraph_{level}_f1"].value for level in ("simple", "partial", "complete")]
        assert values == pytest.approx(golden["means"], abs=1e-12)


def test_chexbert_f1_is_the_package_s(use_standins: Path, goldens: dict[str, Any]) -> None:
    """Micro and macro averages, every label, and the accuracy over five."""
    golden = goldens["chexbert"]
    found = scored(list(PAIRS))
    assert found.left_out == ()
    for labels in ("5", "14"):
        for average in ("micro", "macro"):
            for part in ("precision", "recall", "f1"):
                value = found.headline(f"chexbert{labels}_{average}_{part}")
                expected = golden[f"report_{labels}"][f"{average} avg"][part.replace("f1", "f1-score")]
                assert value == pytest.approx(expected, abs=1e-12), (labels, average, part)
    assert found.headline("chexbert5_accuracy") == golden["accuracy"] == np.mean(golden["accuracy_per_report"])
    for one in found.classes["chexbert"]:
        expected = golden["report_14"][one.name]
        assert one.support == expected["support"]
        assert np.nan_to_num(one.f1.value) == pytest.approx(expected["f1-score"], abs=1e-12)
    assert {one.name for one in found.classes["chexbert"]} == set(LABELS)


def test_reports_are_labelled_once_for_all_metrics(use_standins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def labelled(**texts: Any) -> ChexbertRows:
        calls.append(texts)
        return chexbert_rows(**texts)

    monkeypatch.setattr("xrayexp.metrics.clinical.chexbert_f1.chexbert_rows", labelled)
    scored(list(PAIRS))
    assert len(calls) == 1
    assert (calls[0]["truths"][0], calls[0]["predictions"][0]) == PAIRS[0]


def test_every_value_has_an_interval(use_standins: Path) -> None:
    found = scored(list(PAIRS) * 3, bootstrap=50)
    assert found.left_out == ()
    for name, estimate in found.estimates.items():
        if not estimate.reason:
            assert estimate.low <= estimate.value <= estimate.high, name


@pytest.mark.parametrize("metric", CLINICAL, ids=lambda metric: metric.name)
def test_promises(use_standins: Path, metric: Metric) -> None:
    """The truth as prediction is best where that is promised; RadGraph needs an entity, which the third report has."""
    promised = [one for one in metric.definitions if Invariant.PERFECT_IS_BEST in one.invariants]
    found = scored([(TEXTS[2], TEXTS[2]), (TEXTS[8], TEXTS[8])], metric)
    for definition in promised:
        assert found.headline(definition.name) == pytest.approx(definition.best, abs=1e-6), definition.name


def test_constructed_reports_are_labelled(use_standins: Path) -> None:
    for metric in CLINICAL:
        for definition in metric.definitions:
            assert "not comparable with published figures" in definition.weakness
            assert definition.column == "recall" or definition.caution == "not comparable with published figures"
    for metric in (RadGraphF1(constructed=False), ChexbertF1(constructed=False), Bleu(False), RougeL(False)):
        assert all("comparable" not in one.caution + one.weakness for one in metric.definitions)
    assert all("radgraph-xl" in one.title for one in RadGraphF1().definitions)
    assert RadGraphF1("radgraph").wraps == "radgraph 0.1.18, model radgraph"


def test_without_weights_they_are_left_out_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = scored(list(PAIRS))
    assert [left_out.metric for left_out in found.left_out] == ["radgraph", "chexbert", "chexbert_accuracy"]
    for left_out in found.left_out:
        assert str(tmp_path) in left_out.reason
        assert left_out.fix == "`xrayexp data fetch-metrics`"
    assert set(found.estimates) == {"bleu4", "rouge_l"}


def test_a_truth_without_text_is_no_0() -> None:
    found = scored([("", "No edema."), ("", "Normal.")], Bleu(), RougeL())
    assert found.estimates == {}
    assert all("the true reports have no text" in left_out.reason for left_out in found.left_out)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="no RadGraph model 'radgraph-xxl'; there are radgraph-xl, radgraph"):
        RadGraphF1("radgraph-xxl")


@given(pairs)
@settings(deadline=None, max_examples=30)
def test_bleu_is_torchmetrics(pairs: list[tuple[str, str]]) -> None:
    """Of all reports at once; and adds up, so that it has intervals."""
    from torchmetrics.text import SacreBLEUScore

    truths, predictions = zip(*pairs, strict=True)
    if not any(truths):
        return
    expected = SacreBLEUScore(lowercase=True)(predictions, [[truth] for truth in truths])
    assert scored(pairs, Bleu()).headline("bleu4") == pytest.approx(float(expected), abs=1e-5)


def test_rouge_knows_truth_from_prediction() -> None:
    """Its F1 is symmetric; what it is computed from is not."""
    metric = RougeL()
    assert scored([("the heart is normal", "heart normal")], metric).headline("rouge_l") == pytest.approx(2 / 3)
    assert scored([("a b", ""), ("a b c d", "A, b; c e")], metric).headline("rouge_l") == pytest.approx(0.375)


def test_reports_that_are_scored_twice_are_not_confused(use_standins: Path) -> None:
    """CheXbert's labels are kept for the reports that they were read from, not for others."""
    first, second = scored(list(PAIRS)), scored([pair[::-1] for pair in PAIRS])
    for labels in ("5", "14"):
        precision, recall = (f"chexbert{labels}_micro_{part}" for part in ("precision", "recall"))
        assert first.headline(precision) == second.headline(recall)
    assert dataclasses.asdict(first) != dataclasses.asdict(second)
