"""Structured metrics by hand: matches, mistakes, partial credit, bands, CheXpert's observations, relevance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.metrics.report_cases import pair
from xrayexp.data.external.chexpert_labels import Protocol
from xrayexp.data.observations import FIVE, NO_FINDING, OBSERVATIONS
from xrayexp.errors import ConfigError, DataError
from xrayexp.metrics.base import Metric
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import score
from xrayexp.metrics.structured.bands import Bands
from xrayexp.metrics.structured.chexpert import CheXpert
from xrayexp.metrics.structured.hierarchy import Hierarchical
from xrayexp.metrics.structured.matches import Matches
from xrayexp.metrics.structured.mistakes import Mistakes
from xrayexp.metrics.structured.relevance import CLASSES, Relevance


def scores(metric: Metric, *pairs: tuple[str, str | None], **options: Any) -> Scores:
    reports: Sequence[ScoredReport] = [pair(*texts, image=str(index)) for index, texts in enumerate(pairs)]
    found = score(reports, [metric], bootstrap=0, **options)
    assert not found.left_out
    return found


@pytest.mark.parametrize(
    "truth, predicted, expected",
    [
        ("a, b, c, d", "a, b, c", {"strict_match", "strict_match_jaccard", "soft_match", "soft_match_jaccard"}),
        ("a, b, c", "a, b", {"soft_match", "soft_match_jaccard"}),
        ("a, b, c", "a, b, c, d", {"exact_match_recall", "strict_match", "strict_match_jaccard", "soft_match",
                                   "soft_match_jaccard"}),
        ("a, b, c", "a, b, c, d, e", {"exact_match_recall", "strict_match", "soft_match", "soft_match_jaccard"}),
        ("a", "a, b, c", {"exact_match_recall", "strict_match", "soft_match"}),
        ("a, b, c, d", "a", set()),
        ("a", None, set()),
    ],
)  # fmt: skip
def test_matches(truth: str, predicted: str | None, expected: set[str]) -> None:
    found = scores(Matches(), (truth, predicted))
    assert {name for name, estimate in found.estimates.items() if estimate.value == 1.0} == expected


def test_mistakes_are_of_abnormal_findings() -> None:
    found = scores(
        Mistakes(),
        ("normal", "nodule"),  # invented; there is nothing to leave out
        ("nodule", "normal"),  # left out, and nothing abnormal invented
        ("nodule, mass", "nodule, scoliosis"),  # both
        ("nodule", None),  # left out
        ("nodule", "nodule"),
    )
    assert found.headline("hallucination_rate") == pytest.approx(2 / 5)
    assert found.headline("omission_rate") == pytest.approx(3 / 4)


def test_partial_credit_by_the_tree() -> None:
    """lobar and laminar atelectasis share one of two labels; normal has no neighbours."""
    found = scores(Hierarchical(), ("lobar atelectasis", "laminar atelectasis"), ("normal", "nodule"))
    assert found.headline("hierarchical_precision") == pytest.approx(1 / 3)
    assert found.headline("hierarchical_recall") == pytest.approx(1 / 3)
    broader = scores(Hierarchical(), ("lobar atelectasis", "atelectasis"))
    assert broader.headline("hierarchical_precision") == 1.0
    assert broader.headline("hierarchical_recall") == 0.5


def test_another_tree_gives_other_credit(tmp_path: Path) -> None:
    file = tmp_path / "tree.csv"
    file.write_text("label,parent\nnormal,anything\nnodule,anything\n")
    assert scores(Hierarchical(str(file)), ("normal", "nodule")).headline("hierarchical_f1") == pytest.approx(0.5)
    file.write_text("label,parent\na,b\nb,a\n")
    with pytest.raises(DataError, match="circle"):
        Hierarchical(str(file))


BANDED = (("normal", "normal"), ("nodule", "nodule"), ("mass", "normal"), ("cyst", "cyst, ghost"))
SHARES = {"normal": 0.5, "nodule": 0.01, "mass": 0.005}  # cyst was never trained on


def test_bands_go_by_the_training_images() -> None:
    found = scores(Bands(), *BANDED, training_shares=SHARES)
    assert found.headline("head_recall") == 1.0
    assert found.headline("head_precision") == pytest.approx((1 / 2 + 1) / 2)
    assert found.headline("middle_f1") == 0.0
    assert found.headline("tail_f1") == 1.0  # ghost is never true and belongs to no band


def test_bands_without_training_images_go_by_the_scored_ones() -> None:
    found = scores(Bands(head=0.5, tail=0.3), *BANDED, ("nodule", "nodule"))
    assert math.isnan(found.headline("head_f1"))
    assert found.headline("middle_f1") == 1.0  # nodule, 2 of 5
    assert found.estimates["head_f1"].reason == "no true finding belongs to the head"


@pytest.mark.parametrize("head, tail", [(0.1, 0.2), (1.0, 0.1), (0.1, 0.0)])
def test_bands_in_disorder_are_refused(head: float, tail: float) -> None:
    with pytest.raises(ConfigError, match="tail <= head"):
        Bands(head, tail)


def test_chexpert_reads_its_observations_from_padchests_labels() -> None:
    found = scores(
        CheXpert(),
        ("pleural effusion, scoliosis", "loculated pleural effusion"),  # the same observation
        ("nodule", "pulmonary mass, pacemaker"),
        ("scoliosis", "normal"),  # no finding of CheXpert's, twice
        ("normal", None),  # what cannot be parsed is no normal chest
        ("pacemaker", "pacemaker"),  # devices aside: no finding
    )
    rows = {row.name: row for row in found.classes["chexpert"]}
    assert set(rows) == set(OBSERVATIONS)
    observed = {name: (row.support, row.predicted, row.recall) for name, row in rows.items() if row.support}
    assert observed == {
        "Pleural Effusion": (1, 1, 1.0),
        "Lung Lesion": (1, 1, 1.0),
        NO_FINDING: (3, 2, pytest.approx(2 / 3)),
        "Support Devices": (1, 2, 1.0),
    }
    assert found.headline("chexpert5_micro_f1") == 1.0
    assert found.headline("chexpert5_macro_f1") == 1.0  # of the one of the five that is there
    assert found.headline("chexpert14_micro_precision") == pytest.approx(5 / 6)
    assert found.headline("chexpert14_macro_recall") == pytest.approx((1 + 1 + 2 / 3 + 1) / 4)
    assert set(FIVE) < set(OBSERVATIONS)


def test_reports_in_chexperts_five_labels_have_no_scores_of_the_fourteen() -> None:
    """Their normal chest may be full of nodules. One more name, and they are no such reports."""
    five = (("cardiomegaly, atelectasis", "cardiomegaly"), ("normal", "normal"), ("pleural effusion", None))
    found = scores(CheXpert(), *five)
    assert {row.name for row in found.classes["chexpert"]} == set(FIVE)
    assert found.headline("chexpert5_micro_recall") == pytest.approx(1 / 3)
    for name, estimate in found.estimates.items():
        assert math.isnan(estimate.value) == name.startswith("chexpert14"), name
    assert "the reports state CheXpert's 5 alone" in found.estimates["chexpert14_micro_f1"].reason
    everything = ", ".join(Protocol(5, "ones").vocabulary.name_of.values())
    assert math.isnan(scores(CheXpert(), (everything, everything)).headline("chexpert14_micro_f1"))
    for more in (("nodule", "normal"), ("normal", "laminar atelectasis")):
        more_found = scores(CheXpert(), *five, more)
        assert not math.isnan(more_found.headline("chexpert14_micro_f1"))
        assert more_found.headline("chexpert5_micro_recall") == pytest.approx(1 / 3)


def test_relevance_weighs_findings() -> None:
    """An urgent finding found (4), an incidental one missed (1), a relevant one invented (2)."""
    found = scores(Relevance(), ("pneumothorax, scoliosis", "pneumothorax, never heard of"))
    assert found.headline("relevance_precision") == pytest.approx(4 / 6)
    assert found.headline("relevance_recall") == pytest.approx(4 / 5)
    assert found.headline("relevance_f1") == pytest.approx(8 / 11)
    assert found.headline("urgent_f1") == 1.0


def test_another_table_of_relevance(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "weights: {urgent: 10, relevant: 0.5, incidental: 0}\notherwise: incidental\n"
        "urgent: [scoliosis]\nrelevant: [pneumothorax]\nincidental: []\n"
    )
    found = scores(Relevance(str(file)), ("pneumothorax, scoliosis", "pneumothorax, never heard of"))
    assert found.headline("relevance_recall") == pytest.approx(0.5 / 10.5)
    assert found.headline("relevance_precision") == 1.0
    assert found.headline("urgent_recall") == 0.0


GOOD = {"weights": "{urgent: 4, relevant: 2, incidental: 1}", "otherwise": "relevant", "urgent": "[a]",
        "relevant": "[b]", "incidental": "[]"}  # fmt: skip


@pytest.mark.parametrize(
    "change, message",
    [
        ({"relevant": "[a]"}, "'a' is urgent as well as relevant"),
        ({"otherwise": "whatever"}, "otherwise must be one of"),
        ({"weights": "{urgent: 4}"}, "has to have the keys"),
        ({"other": "[c]"}, "has to have the keys"),
        ({"weights": "{urgent: -1, relevant: 2, incidental: 1}"}, "weights must be numbers of at least 0"),
    ],
)
def test_a_table_of_relevance_that_contradicts_itself(tmp_path: Path, change: dict[str, str], message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in (GOOD | change).items()))
    with pytest.raises(ConfigError, match=message):
        Relevance(str(file))
    assert set(CLASSES) < set(GOOD)


@pytest.mark.parametrize("text, error", [("[]", DataError), ("Edema: [a]", ConfigError), ("a: [", DataError)])
def test_a_table_that_is_none(tmp_path: Path, text: str, error: type[Exception]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(error, match=r"mine\.yaml"):
        CheXpert(str(file))
    with pytest.raises(DataError, match=r"missing\.yaml"):
        CheXpert(str(tmp_path / "missing.yaml"))
