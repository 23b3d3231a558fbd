"""Every metric keeps the invariants that it declares, and those alone: on reports that break what can be broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import pytest

from tests.metrics.report_cases import parsed, with_text
from xrayexp.data.report import Report
from xrayexp.metrics.base import Definition, Invariant
from xrayexp.metrics.registry import metrics_of
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import missing, score

# Frequent, rare and of every class; with places, with parents in the tree, with CheXpert's observations.
TRUTHS = [
    *["normal"] * 6,
    "pleural effusion @left @pleural, cardiomegaly @cardiac",
    "laminar atelectasis @basal, nodule @right",
    "pneumothorax @apical, rib fracture @rib, pulmonary edema, consolidation @left",
    "pulmonary mass @hilar, scoliosis",
    "pacemaker, aortic elongation @aortic, pneumonia @right, kyphosis",
]
# Nothing of it is true, but siblings in the tree and in CheXpert's classes.
NEAR = [
    *["laminar atelectasis @basal"] * 6,
    "loculated pleural effusion @left",
    "lobar atelectasis @basal, multiple nodules @right",
    "hydropneumothorax @apical, clavicle fracture, heart insufficiency",
    "mass @hilar, kyphosis",
    "dual chamber device, aortic button enlargement, atypical pneumonia",
]
MISSED = ["scoliosis", "nodule", "nodule", "nodule", "nodule", "nodule", *["normal"] * 5]
SHARES = {"normal": 0.4, "pneumothorax": 0.005, "pulmonary mass": 0.0005, "nodule": 0.005, "scoliosis": 0.0005}
DECLARING = metrics_of("all")
AVAILABLE = [metric for metric in DECLARING if metric.name not in {gone.metric for gone in missing(DECLARING)}]
DEFINITIONS = [definition for metric in AVAILABLE for definition in metric.definitions]


def answered(predictions: Sequence[Report | None]) -> list[ScoredReport]:
    return [
        with_text(parsed(truth), predicted, str(i), str(i))
        for i, (truth, predicted) in enumerate(zip(TRUTHS, predictions, strict=True))
    ]


def everything() -> Report:
    """All that is true of any image, with all places."""
    return Report(tuple(dict.fromkeys(finding for text in TRUTHS for finding in parsed(text).findings)))


def reversed_findings(reports: Sequence[ScoredReport]) -> list[ScoredReport]:
    turned = [
        with_text(
            r.truth,  # of a metric that reads text, turning both alike would hide that it minds
            Report(r.predicted.findings[::-1]) if r.predicted else None,
            r.image_id,
            r.patient_id,
        )
        for r in reports
    ]
    assert [r.predicted_text for r in turned] != [r.predicted_text for r in reports]
    return turned


def mixed() -> list[ScoredReport]:
    """Half right."""
    return answered([parsed(t if i % 2 else n) for i, (t, n) in enumerate(zip(TRUTHS, NEAR, strict=True))])


CASES: dict[str, Callable[[], list[ScoredReport]]] = {
    "perfect": lambda: answered([parsed(text) for text in TRUTHS]),
    "near": lambda: answered([parsed(text) for text in NEAR]),
    "missed": lambda: answered([parsed(text) for text in MISSED]),
    "silent": lambda: answered([None] * len(TRUTHS)),
    "listing": lambda: answered([everything()] * len(TRUTHS)),
    "mixed": mixed,
    "reversed": lambda: reversed_findings(mixed()),
}


@cache
def scores(case: str) -> Scores:
    return score(CASES[case](), AVAILABLE, training_shares=SHARES, bootstrap=0)


def keeps(definition: Definition, invariant: Invariant) -> bool:
    """Whether the values of a metric are as an invariant says."""
    sign = -1 if definition.direction == "lower" else 1

    def value(case: str) -> float:
        return sign * scores(case).headline(definition.name)

    if invariant is Invariant.PERFECT_IS_BEST:
        assert definition.best is not None
        return value("perfect") == pytest.approx(sign * definition.best)
    if invariant is Invariant.ORDER_IS_IRRELEVANT:
        return value("mixed") == pytest.approx(value("reversed"), nan_ok=True)
    if invariant is Invariant.LISTING_DOES_NOT_WIN:
        return value("listing") < value("perfect")
    others = [found for case in CASES if not math.isnan(found := value(case))]
    wrong = [found for case in ("near", "missed") if not math.isnan(found := value(case))]
    return max(wrong) <= min(others)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.name)
def test_a_metric_keeps_what_it_declares_and_nothing_else(definition: Definition) -> None:
    assert not scores("perfect").left_out
    possible = set(Invariant) if definition.direction != "neither" else {Invariant.ORDER_IS_IRRELEVANT}
    assert {invariant for invariant in possible if keeps(definition, invariant)} == definition.invariants


def test_what_is_recall_only_says_so() -> None:
    """A metric that listing every finding wins carries the warning where people look."""
    lists_to_win = [
        d for d in DEFINITIONS if d.direction == "higher" and Invariant.LISTING_DOES_NOT_WIN not in d.invariants
    ]
    assert {"soft_match", "strict_match", "exact_match_recall", "micro_recall"} <= {d.name for d in lists_to_win}
    for definition in lists_to_win:
        assert "naming everything scores 1" in definition.caution
        if "match" in definition.name:
            assert "(recall only)" in definition.title
            assert "recall only" in definition.weakness
