"""Scores predicted reports against true ones with any metrics; one that fails takes nothing else with it.

docs/metrics.md says what each number means. `table.render` shows them, `Scores.to_json` is metrics.json.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xrayexp.metrics.base import Classes, Definition, Fixed, Floats, Metric, Sums, Table
from xrayexp.metrics.bootstrap import MIN_DEFINED, acceleration, bca_interval, by_patient, resampled_totals
from xrayexp.metrics.formulas import blocks, ratio
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import ClassScore, Estimate, LeftOut, Scores

log = logging.getLogger(__name__)

_SPARSE = f"no interval: undefined in over {1 - MIN_DEFINED:.0%} of the resamples"


def score(
    reports: Sequence[ScoredReport],
    metrics: Iterable[Metric],
    *,
    training_shares: Mapping[str, float] | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Scores:
    """Score predictions; each value with a BCa interval that resamples patients.

    Args:
        reports: one per image, in any order.
        metrics: what to compute.
        training_shares: share of the training images in which each finding is true; None when it is not known.
        bootstrap: number of resamples; 0 for values without intervals.
        confidence: of the intervals, between 0 and 1.
        seed: of the resamples; the same seed and reports give the same intervals.

    Raises:
        ValueError: a negative `bootstrap`, a confidence outside (0, 1), or an image that is scored twice.
    """
    if bootstrap < 0:
        raise ValueError(f"bootstrap is a number of resamples, 0 or more: {bootstrap}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1: {confidence}")
    report_set = ReportSet(reports, training_shares)
    found = _Found()
    measured = []
    for metric in metrics:
        with kept_from(metric, found.left_out):
            if (left_out := _missing(metric)) is not None:
                found.left_out.append(left_out)
                continue
            measured.append((metric, _checked(metric, metric.measure(report_set), len(report_set))))
    resampling = _Resampling.of(report_set, [m for _, m in measured if isinstance(m, Sums)], bootstrap, seed)
    for metric, measure in measured:
        with kept_from(metric, found.left_out):
            if isinstance(measure, Fixed):
                found.add(metric, [_fixed(measure, *pair) for pair in enumerate(metric.definitions)])
            else:
                estimator = _Estimator.of(measure, resampling, confidence)
                found.add(metric, estimator.values(metric.definitions), estimator.classes(), measure.details)
    return Scores(
        definitions=found.definitions,
        estimates=found.estimates,
        classes=found.classes,
        wraps=found.wraps,
        left_out=tuple(found.left_out),
        images=len(report_set),
        patients=len(report_set.patients),
        confidence=confidence,
        bootstrap=bootstrap,
        seed=seed,
        training_shares=training_shares,
        details=found.details,
    )


@dataclass
class _Found:
    """What has been scored so far."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    classes: dict[str, tuple[ClassScore, ...]] = field(default_factory=dict)
    wraps: dict[str, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    details: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def add(
        self,
        metric: Metric,
        estimates: Sequence[Estimate],
        classes: tuple[ClassScore, ...] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        for definition, estimate in zip(metric.definitions, estimates, strict=True):
            self.definitions[definition.name], self.estimates[definition.name] = definition, estimate
            if metric.wraps is not None:
                self.wraps[definition.name] = metric.wraps
        if classes is not None:
            self.classes[metric.name] = classes
        if details is not None:
            self.details[metric.name] = details


@contextmanager
def kept_from(metric: Metric, left_out: list[LeftOut]) -> Iterator[None]:
    """Leaves a metric out whose code fails, whatever it raises: much of it is other people's.

    The predictions took hours, and the other metrics are not at fault.
    """
    try:
        yield
    except Exception as error:
        left_out.append(LeftOut(metric.name, f"it failed with {type(error).__name__}: {error}".partition("\n")[0]))
        log.warning("%s", left_out[-1])
        log.debug("%s failed", metric.name, exc_info=True)


def missing(metrics: Iterable[Metric]) -> list[LeftOut]:
    """The metrics that cannot be computed on this machine as it is, without loading or fetching anything."""
    found: list[LeftOut] = []
    for metric in metrics:
        with kept_from(metric, found):
            if (left_out := _missing(metric)) is not None:
                found.append(left_out)
    return found


def _missing(metric: Metric) -> LeftOut | None:
    check = metric.unavailable()
    return None if check is None else LeftOut(metric.name, f"{check.name}: {check.detail}", check.fix)


def _checked(metric: Metric, measured: Sums | Fixed, reports: int) -> Sums | Fixed:
    """A row for every report: a wrong number of them would end the resampling of all metrics."""
    if isinstance(measured, Sums) and measured.table.shape[0] != reports:
        raise ValueError(f"{metric.name} has {measured.table.shape[0]} rows for {reports} reports")
    return measured


@dataclass(frozen=True)
class _Resampling:
    """Tables by patient and their resamples, by the identity of the table by report.

    Attributes:
        tables: [patients, columns].
        totals: [resamples, columns]; none without resamples.
        no_interval: why there are no resamples; empty where nobody asked for any.
    """

    tables: Mapping[int, Table]
    totals: Mapping[int, Floats]
    no_interval: str

    @classmethod
    def of(cls, reports: ReportSet, measured: Sequence[Sums], bootstrap: int, seed: int) -> _Resampling:
        tables = {id(m.table): by_patient(m.table, reports.patient_of, len(reports.patients)) for m in measured}
        # Of one patient every resample is the same: the interval would have no width.
        drawn = bootstrap if len(reports.patients) > 1 else 0
        totals = resampled_totals(list(tables.values()), drawn, seed) if drawn else []
        reason = "no interval: needs two patients" if bootstrap and not drawn else ""
        return cls(tables, dict(zip(tables, totals, strict=False)), reason)


@dataclass(frozen=True)
class _Estimator:
    """Estimates of one metric."""

    sums: Sums
    table: Table  # [patients, columns]
    draws: Floats | None  # [resamples, columns]
    confidence: float
    no_interval: str

    @classmethod
    def of(cls, sums: Sums, resampling: _Resampling, confidence: float) -> _Estimator:
        key = id(sums.table)
        return cls(sums, resampling.tables[key], resampling.totals.get(key), confidence, resampling.no_interval)

    def values(self, definitions: Sequence[Definition]) -> list[Estimate]:
        """One for each definition."""
        return self._estimates(self.sums.formula, [definition.undefined for definition in definitions])

    def classes(self) -> tuple[ClassScore, ...] | None:
        """Every class by itself, where the columns are classes."""
        if self.sums.classes is None:
            return None
        names = self.sums.classes.names
        true, named, correct = blocks(self._total())
        f1 = self._estimates(_class_f1, ["neither true nor named"] * len(names))
        rows = zip(names, true, named, ratio(correct, named), ratio(correct, true), f1, strict=True)
        scores = [ClassScore(name, int(t), int(n), float(p), float(r), f) for name, t, n, p, r, f in rows]
        scores += _never_true(self.sums.classes)
        return tuple(sorted(scores, key=lambda score: (-score.support, -score.predicted, score.name)))

    def _total(self) -> Floats:
        return np.asarray(self.table.sum(axis=0), dtype=float)

    def _estimates(self, formula: Callable[[Floats], Floats], undefined: Sequence[str]) -> list[Estimate]:
        values = formula(self._total())
        if values.shape != (len(undefined),):
            raise ValueError(f"{values.shape[-1]} values for {len(undefined)} definitions")
        if self.draws is None:
            return [
                Estimate(float(value), reason=why if math.isnan(value) else self.no_interval)
                for value, why in zip(values, undefined, strict=True)
            ]
        low, high, notes = bca_interval(values, formula(self.draws), acceleration(self.table, formula), self.confidence)
        return [
            Estimate(float(v), float(a), float(b), why if math.isnan(v) else _SPARSE if math.isnan(a) else "", note)
            for v, a, b, why, note in zip(values, low, high, undefined, notes, strict=True)
        ]


def _class_f1(sums: Floats) -> Floats:
    true, named, correct = blocks(sums)
    return ratio(2 * correct, true + named)


def _never_true(classes: Classes) -> list[ClassScore]:
    wrong = Estimate(0.0, reason="no interval: never true, so 0 in every resample")
    return [ClassScore(name, 0, named, 0.0, math.nan, wrong) for name, named in classes.never_true.items()]


def _fixed(measured: Fixed, index: int, definition: Definition) -> Estimate:
    value = float(measured.values[index])
    return Estimate(value, reason=definition.undefined if math.isnan(value) else measured.no_interval)
