"""One true report beside one predicted report, and what that pair alone scores."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.data.report import Report

SOFT_THRESHOLD = 0.5  # ExplainMyXray's: half of the true findings
STRICT_THRESHOLD = 0.75  # ExplainMyXray's, too


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredReport:
    """A true report and what the model said about the same image; by keyword alone, so that nobody swaps the two.

    Attributes:
        image_id: the image; scored once.
        patient_id: what the bootstrap resamples.
        truth: the report to be matched.
        predicted: the model's report, None if its text could not be parsed.
        truth_text: the true report as text, for the metrics that read text; empty where there is none.
        predicted_text: what the model wrote, whether or not it could be parsed; empty where it is not known.
        true_boxes: where the findings lie; None where nobody drew boxes, or nobody asks for them.
        predicted_boxes: those that the model drew, none where its answer could not be parsed; None where it was not
            asked for any.
        confidence: by named finding, the probability that the model gave to its name; None where it is not known.
        sampled: by finding, the share of further reports, drawn at random, that name it; 0 for findings that are
            missing in it. None where none were drawn.
    """

    image_id: str
    patient_id: str
    truth: Report
    predicted: Report | None
    truth_text: str = ""
    predicted_text: str = ""
    true_boxes: TrueBoxes | None = None
    predicted_boxes: tuple[FindingBox, ...] | None = None
    confidence: Mapping[str, float] | None = field(default=None, hash=False)
    sampled: Mapping[str, float] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Overlap:
    """A true and a predicted set; each score is None where it would be 0 / 0."""

    true: Set[Any]
    named: Set[Any]

    @property
    def correct(self) -> Set[Any]:
        """What is both true and named."""
        return self.true & self.named

    @property
    def precision(self) -> float | None:
        """The share of the named that is true."""
        return _ratio(len(self.correct), len(self.named))

    @property
    def recall(self) -> float | None:
        """The share of the true that is named."""
        return _ratio(len(self.correct), len(self.true))

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall."""
        return _ratio(2 * len(self.correct), len(self.true) + len(self.named))

    @property
    def jaccard(self) -> float | None:
        """The size of the intersection over the size of the union."""
        return _ratio(len(self.correct), len(self.true | self.named))


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one predicted report differs from its truth.

    Attributes:
        names: the sets of finding names; 'normal' is a name like any other.
        pairs: the sets of (finding, location); a finding without location has none.
        exact_match: parsed, and the same names.
        exact_match_located: parsed, and the same lines (a name with its set of locations).
        unparseable: the prediction is not a report; it then names nothing.
    """

    names: Overlap
    pairs: Overlap
    exact_match: bool
    exact_match_located: bool
    unparseable: bool

    @property
    def soft_match(self) -> bool | None:
        """At least half of the true names are named; None without a true name."""
        return self._recalls(SOFT_THRESHOLD)

    @property
    def soft_match_jaccard(self) -> bool | None:
        """The names' Jaccard index is at least a half; None without a true name."""
        return self._overlaps(SOFT_THRESHOLD)

    @property
    def strict_match(self) -> bool | None:
        """At least three quarters of the true names are named; None without a true name."""
        return self._recalls(STRICT_THRESHOLD)

    @property
    def strict_match_jaccard(self) -> bool | None:
        """The names' Jaccard index is at least three quarters; None without a true name."""
        return self._overlaps(STRICT_THRESHOLD)

    def _recalls(self, least: float) -> bool | None:
        recall = self.names.recall
        return None if recall is None else recall >= least

    def _overlaps(self, least: float) -> bool | None:
        jaccard = self.names.jaccard
        return None if jaccard is None or not self.names.true else jaccard >= least


def compare(report: ScoredReport) -> Comparison:
    """Compare one prediction with its truth; names and locations must agree letter by letter."""
    truth, predicted = report.truth, report.predicted
    if predicted is None:
        names, pairs = Overlap(truth.names, frozenset()), Overlap(truth.pairs, frozenset())
        return Comparison(names, pairs, exact_match=False, exact_match_located=False, unparseable=True)
    names = Overlap(truth.names, predicted.names)
    return Comparison(
        names=names,
        pairs=Overlap(truth.pairs, predicted.pairs),
        exact_match=names.true == names.named,
        exact_match_located=_lines(truth) == _lines(predicted),
        unparseable=False,
    )


def per_sample(report: ScoredReport) -> dict[str, float | bool | None]:
    """The scores of one prediction, for its line of predictions.jsonl.

    A score that is 0 / 0 for this sample (the precision of a prediction that names nothing) is None.
    """
    comparison = compare(report)
    names, pairs = comparison.names, comparison.pairs
    return {
        "exact_match": comparison.exact_match,
        "exact_match_located": comparison.exact_match_located,
        "strict_match": comparison.strict_match,
        "strict_match_jaccard": comparison.strict_match_jaccard,
        "soft_match": comparison.soft_match,
        "soft_match_jaccard": comparison.soft_match_jaccard,
        "precision": names.precision,
        "recall": names.recall,
        "f1": names.f1,
        "jaccard": names.jaccard,
        "pair_f1": pairs.f1,
        "unparseable": comparison.unparseable,
    }


def _lines(report: Report) -> frozenset[tuple[str, frozenset[str]]]:
    return frozenset((finding.name, frozenset(finding.locations)) for finding in report.findings)


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None
