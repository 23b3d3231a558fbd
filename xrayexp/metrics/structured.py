"""Scores of predicted reports against true ones: finding names and their locations, with intervals.

docs/metrics.md says what each number means. `table.render` shows them, `to_json` is metrics.json.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xrayexp.metrics.bootstrap import MIN_DEFINED, percentile_interval, resampled_totals
from xrayexp.metrics.counts import Counts, Floats, PatientCounts, count_by_patient
from xrayexp.metrics.definitions import HEADLINE
from xrayexp.metrics.formulas import finding_f1, finding_precision, finding_recall
from xrayexp.metrics.samples import ScoredReport, per_sample

__all__ = [
    "Estimate",
    "FindingScore",
    "ScoredReport",
    "StructuredMetrics",
    "per_sample",
    "structured_metrics",
]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; what does not exist is NaN, and `reason` says why.

    `reason` is empty for a complete estimate, and where the caller asked for no interval.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    reason: str = ""

    def to_json(self) -> dict[str, float | str | None]:
        """{value, low, high}, null for NaN, and the reason if there is one."""
        numbers = {"value": _null(self.value), "low": _null(self.low), "high": _null(self.high)}
        return numbers | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True, slots=True)
class FindingScore:
    """One finding over all reports.

    Attributes:
        name: the finding.
        support: reports in which it is true.
        predicted: reports that name it.
        precision: correct over predicted, NaN if never named.
        recall: correct over support, NaN if never true.
        f1: with its interval.
    """

    name: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: Estimate

    def to_json(self) -> dict[str, Any]:
        """Its entry in metrics.json."""
        return {
            "support": self.support,
            "predicted": self.predicted,
            "precision": _null(self.precision),
            "recall": _null(self.recall),
            "f1": self.f1.to_json(),
        }


@dataclass(frozen=True, slots=True)
class StructuredMetrics:
    """All structured metrics of one set of predictions.

    Attributes:
        estimates: headline name to estimate, in the order of `definitions.HEADLINE`.
        findings: by falling support, then by how often they are named, then by name.
        images: number of reports scored.
        patients: number of patients they belong to.
        confidence: of every interval.
        bootstrap: number of resamples behind every interval; 0 if there are none.
        seed: of the resamples.
    """

    estimates: Mapping[str, Estimate]
    findings: tuple[FindingScore, ...]
    images: int
    patients: int
    confidence: float
    bootstrap: int
    seed: int

    def headline(self, name: str) -> float:
        """The value of one headline metric, NaN where it is undefined.

        Raises:
            KeyError: there is no such metric.
        """
        if name not in self.estimates:
            raise KeyError(f"no headline metric {name!r}; there are {', '.join(self.estimates)}")
        return self.estimates[name].value

    def to_json(self) -> dict[str, Any]:
        """metrics.json: strict JSON, null for what does not exist."""
        return {
            "images": self.images,
            "patients": self.patients,
            "confidence": self.confidence,
            "bootstrap": self.bootstrap,
            "seed": self.seed,
            "metrics": {name: estimate.to_json() for name, estimate in self.estimates.items()},
            "findings": {finding.name: finding.to_json() for finding in self.findings},
            "definitions": {
                metric.name: {
                    "definition": metric.definition,
                    "weakness": metric.weakness,
                    "averages_over": metric.averages_over,
                    "range": metric.range,
                    "better": metric.direction,
                }
                for metric in HEADLINE
            },
        }


def structured_metrics(
    reports: Sequence[ScoredReport], *, bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> StructuredMetrics:
    """Score predictions; each value with a percentile interval that resamples patients.

    Args:
        reports: one per image, in any order.
        bootstrap: number of resamples; 0 for values without intervals.
        confidence: of the intervals, between 0 and 1.
        seed: of the resamples; the same seed and reports give the same intervals.

    Raises:
        ValueError: a negative `bootstrap`, a confidence outside (0, 1), or an image that is scored twice.
    """
    _check(reports, bootstrap, confidence)
    counted = count_by_patient(reports)
    patients = len(counted.counts.table)
    scorer = _Scorer(
        total=counted.counts.total(),
        # Of one patient every resample is the same: the interval would have no width.
        resampled=resampled_totals(counted.counts, bootstrap, seed) if bootstrap and patients > 1 else None,
        confidence=confidence,
        no_interval="no interval: needs two patients" if bootstrap else "",
    )
    return StructuredMetrics(
        estimates={m.name: scorer.estimates(m.formula, m.undefined)[0] for m in HEADLINE},
        findings=_findings(counted, scorer),
        images=len(reports),
        patients=patients,
        confidence=confidence,
        bootstrap=bootstrap,
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Applies a formula to the observed counts and to their resamples."""

    total: Counts
    resampled: Counts | None
    confidence: float
    no_interval: str  # why, if `resampled` is None

    def estimates(self, formula: Callable[[Counts], Floats], undefined: str) -> list[Estimate]:
        """One estimate for each value of the formula; `undefined` is the reason for a missing one."""
        values = np.atleast_1d(formula(self.total))
        if self.resampled is None:
            return [_estimate(value, math.nan, math.nan, undefined, self.no_interval) for value in values]
        draws = formula(self.resampled)
        low, high = percentile_interval(draws.reshape(len(draws), -1), self.confidence)
        sparse = f"no interval: undefined in over {1 - MIN_DEFINED:.0%} of the resamples"
        return [_estimate(*numbers, undefined, sparse) for numbers in zip(values, low, high, strict=True)]


def _estimate(value: float, low: float, high: float, undefined: str, no_interval: str) -> Estimate:
    reason = undefined if math.isnan(value) else no_interval if math.isnan(low) else ""
    return Estimate(float(value), float(low), float(high), reason)


def _findings(counted: PatientCounts, scorer: _Scorer) -> tuple[FindingScore, ...]:
    total = scorer.total
    columns = zip(
        counted.findings,
        total.finding("true"),
        total.finding("named"),
        finding_precision(total),
        finding_recall(total),
        scorer.estimates(finding_f1, undefined="neither true nor named"),
        strict=True,
    )
    scores = [
        FindingScore(name, int(true), int(named), float(precision), float(recall), f1)
        for name, true, named, precision, recall, f1 in columns
    ]
    wrong = Estimate(0.0, reason="no interval: never true, so 0 in every resample")
    scores += [
        FindingScore(name, 0, named, precision=0.0, recall=math.nan, f1=wrong)
        for name, named in counted.never_true.items()
    ]
    return tuple(sorted(scores, key=lambda score: (-score.support, -score.predicted, score.name)))


def _check(reports: Sequence[ScoredReport], bootstrap: int, confidence: float) -> None:
    if bootstrap < 0:
        raise ValueError(f"bootstrap is a number of resamples, 0 or more: {bootstrap}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1: {confidence}")
    # A distributed sampler pads its last batch with repeated images.
    [(image_id, times)] = Counter(report.image_id for report in reports).most_common(1) or [("", 1)]
    if times > 1:
        raise ValueError(f"image {image_id} is scored {times} times; each image counts once")


def _null(number: float) -> float | None:
    return None if math.isnan(number) else number
