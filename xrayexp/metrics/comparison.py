"""Runs beside a reference run on the same images: differences with intervals, tests and effect sizes.

Intervals: the BCa bootstrap of patients, in which both runs see the same patients. Tests: the paired randomisation
test, corrected by Holm. A pair of runs tells of these two trainings: other seeds may differ by more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import hstack, issparse

from xrayexp.metrics.base import Definition, Fixed, Floats, Metric, Sums, Table
from xrayexp.metrics.bootstrap import acceleration, bca_interval, by_patient, resampled_totals
from xrayexp.metrics.changes import Changes, changes
from xrayexp.metrics.formulas import blocks, precision_recall_f1
from xrayexp.metrics.paired_tests import effect_sizes, holm, p_values, swapped_shifts
from xrayexp.metrics.pairing import Paired
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.scores import LeftOut
from xrayexp.metrics.scoring import kept_from, missing

MIN_SUPPORT = 10
"""Images in which a finding must be true to be tested: with fewer, no swap of them is rarer than chance allows."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A value of a run beside the reference's; what does not exist is NaN.

    Attributes:
        reference: the reference's value.
        other: the run's.
        difference: other less reference.
        low: of the difference's interval.
        high: likewise.
        p: of the randomisation test, two-sided.
        adjusted: p by Holm, for all tests of the same table.
        effect: Cohen's d_z.
    """

    reference: float
    other: float
    difference: float
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    adjusted: float = np.nan
    effect: float = np.nan


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """F1 of one class, such as a finding, in a run and in the reference.

    Attributes:
        name: the class.
        support: images in which it is true.
        reference_named: images for which the reference names it.
        other_named: images for which the run does.
        f1: the difference; not tested with less support than `MIN_SUPPORT`.
    """

    name: str
    support: int
    reference_named: int
    other_named: int
    f1: Difference


@dataclass(frozen=True, slots=True)
class RunDifference:
    """One run beside the reference.

    Attributes:
        values: by the name of the value.
        classes: by metric, such as "findings": by falling support.
        changes: report by report.
        exact: whether the randomisation test went through all swaps there are.
    """

    values: Mapping[str, Difference]
    classes: Mapping[str, tuple[ClassDifference, ...]]
    changes: Changes
    exact: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs beside the first, the reference.

    Attributes:
        reference: its name.
        runs: the others, by name.
        definitions: of every value, in the order of the metrics.
        values: by run, the reference first: its values by name.
        left_out: metrics without values.
        images: that all runs share.
        patients: whose these are.
        dropped: by run: images that another run was not scored on.
        tests: number of tests that Holm's correction covers: every value of every run, descriptions aside.
        confidence: of every interval.
        resamples: behind every interval.
        draws: of the randomisation tests.
        seed: of both.
    """

    reference: str
    runs: Mapping[str, RunDifference]
    definitions: Mapping[str, Definition]
    values: Mapping[str, Mapping[str, float]]
    left_out: tuple[LeftOut, ...]
    images: int
    patients: int
    dropped: Mapping[str, int]
    tests: int
    confidence: float
    resamples: int
    draws: int
    seed: int


def compare_runs(
    paired: Paired,
    metrics: Sequence[Metric],
    *,
    only: Iterable[str] | None = None,
    training_shares: Mapping[str, float] | None = None,
    resamples: int = 1000,
    draws: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares every run with the first.

    Args:
        paired: the runs.
        metrics: what to compute.
        only: names of the values to keep, so that Holm's correction covers no others; None for all.
        training_shares: share of the training images in which each finding is true; None when it is not known.
        resamples: of patients, for the intervals.
        draws: of swaps, for the tests.
        confidence: of the intervals, between 0 and 1.
        seed: of the resamples and swaps; the same seed and predictions give the same numbers.
    """
    reference, *others = paired.reports
    measured = _Measured(paired, training_shares)
    kept = None if only is None else frozenset(only)
    for metric in metrics:
        measured.add(metric, kept)
    together = measured.together
    options = _Options(together.patients, resamples, draws, confidence, seed)
    runs = {name: _difference(measured, index, name, options) for index, name in enumerate(others, start=1)}
    runs = _in_all_runs(runs)
    adjusted, tests = _corrected({name: run.values for name, run in runs.items()})
    values = {name: {key: one.other for key, one in run.values.items()} for name, run in runs.items()}
    first = next(iter(runs.values()))
    return Comparison(
        reference=reference,
        runs={name: replace(run, values=adjusted[name]) for name, run in runs.items()},
        definitions={key: measured.definitions[key] for key in first.values},
        values={reference: {key: one.reference for key, one in first.values.items()}} | values,
        left_out=tuple(dict.fromkeys(measured.left_out)),
        images=paired.images,
        patients=len(together.patients),
        dropped=paired.dropped,
        tests=tests,
        confidence=confidence,
        resamples=resamples,
        draws=draws,
        seed=seed,
    )


@dataclass(frozen=True)
class _Options:
    patients: Sequence[str]
    resamples: int
    draws: int
    confidence: float
    seed: int


@dataclass
class _Measured:
    """The metrics of all runs.

    All reports are measured as one set, the runs one after another, so that every run has the same columns: a swap
    of rows needs that. Metrics that share a table share its resamples.
    """

    paired: Paired
    training_shares: Mapping[str, float] | None
    sums: list[tuple[Metric, Sums, list[int]]] = field(default_factory=list)  # with the values to keep
    fixed: list[tuple[Metric, list[Fixed], list[int]]] = field(default_factory=list)  # one for each run
    definitions: dict[str, Definition] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def __post_init__(self) -> None:
        reports = [
            replace(report, image_id=f"{name}: {report.image_id}")
            for name, of_run in self.paired.reports.items()
            for report in of_run
        ]
        self.together = ReportSet(reports, self.training_shares)

    def add(self, metric: Metric, only: frozenset[str] | None) -> None:
        """Measures a metric, or says why not."""
        kept = [index for index, one in enumerate(metric.definitions) if only is None or one.name in only]
        if not kept and only is not None and metric.name not in only:
            return
        if without := missing([metric]):
            self.left_out += without
            return
        with kept_from(metric, self.left_out):
            found = metric.measure(self.together)
            if isinstance(found, Sums):
                if found.table.shape[0] != len(self.together):
                    raise ValueError(f"{found.table.shape[0]} rows for {len(self.together)} reports")
                self.sums.append((metric, found, kept))
            else:
                each = [metric.measure(ReportSet(r, self.training_shares)) for r in self.paired.reports.values()]
                self.fixed.append((metric, [one for one in each if isinstance(one, Fixed)], kept))
            self.definitions |= {metric.definitions[index].name: metric.definitions[index] for index in kept}

    def of_run(self, table: Table, index: int) -> Table:
        """The rows of one run, by patient: [patients, columns]."""
        start = index * self.paired.images
        rows = slice(start, start + self.paired.images)
        return by_patient(table[rows], self.together.patient_of[rows], len(self.together.patients))


def _difference(measured: _Measured, index: int, name: str, options: _Options) -> RunDifference:
    """One run beside the first."""
    tables = {id(sums.table): sums.table for _, sums, _ in measured.sums}
    pairs = {key: _Pair.of(measured.of_run(table, 0), measured.of_run(table, index)) for key, table in tables.items()}
    exact = _resample(list(pairs.values()), options)
    values: dict[str, Difference] = {}
    classes: dict[str, tuple[ClassDifference, ...]] = {}
    for metric, sums, kept in measured.sums:
        with kept_from(metric, measured.left_out):
            pair = pairs[id(sums.table)]
            found = pair.differences(sums.formula, options, exact) if kept else []
            values |= {metric.definitions[i].name: _tested(metric.definitions[i], found[i]) for i in kept}
            if sums.classes is not None:
                classes[metric.name] = _by_class(pair, sums.classes.names, options, exact)
    for metric, fixed, kept in measured.fixed:
        both = (fixed[0].values, fixed[index].values, fixed[index].values - fixed[0].values)
        values |= {metric.definitions[i].name: Difference(*(float(side[i]) for side in both)) for i in kept}
    turned = changes(*(measured.paired.reports[one] for one in (next(iter(measured.paired.reports)), name)))
    return RunDifference({key: values[key] for key in measured.definitions if key in values}, classes, turned, exact)


def _in_all_runs(runs: Mapping[str, RunDifference]) -> dict[str, RunDifference]:
    """Without the values of a formula that failed for one of the runs: a table has no holes."""
    values = set.intersection(*(set(run.values) for run in runs.values()))
    classes = set.intersection(*(set(run.classes) for run in runs.values()))
    return {
        name: replace(
            run,
            values={key: one for key, one in run.values.items() if key in values},
            classes={key: each for key, each in run.classes.items() if key in classes},
        )
        for name, run in runs.items()
    }


def _tested(definition: Definition, difference: Difference) -> Difference:
    """A description is not tested: it is neither better nor worse, and would cost the others power."""
    return replace(difference, p=np.nan) if definition.direction == "neither" else difference


@dataclass
class _Pair:
    """One table of two runs, with its resamples and swaps.

    Attributes:
        reference: [patients, columns].
        other: likewise.
        draws: sums in the resamples of both, [resamples, 2 x columns].
        shifts: what swaps take from the other run and give to the reference, [swaps, columns].
    """

    reference: Table
    other: Table
    both: Table
    draws: Floats = field(default_factory=lambda: np.empty(0))
    shifts: Floats = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(cls, reference: Table, other: Table) -> _Pair:
        sparse = issparse(reference)
        both = hstack([reference, other], format="csr") if sparse else np.concatenate([reference, other], axis=1)
        return cls(reference, other, both)

    def differences(self, formula: Callable[[Floats], Floats], options: _Options, exact: bool) -> list[Difference]:
        """Of every value of the formula."""
        total = np.asarray(self.both.sum(axis=0), dtype=float)
        size = len(total) // 2

        def difference(sums: Floats) -> Floats:
            found: Floats = formula(sums[..., size:]) - formula(sums[..., :size])
            return found

        reference, other, observed = formula(total[:size]), formula(total[size:]), difference(total)
        if len(options.patients) < 2:  # every resample is the same
            return [Difference(*map(float, row)) for row in zip(reference, other, observed, strict=True)]
        draws = difference(self.draws)
        low, high, _ = bca_interval(observed, draws, acceleration(self.both, difference), options.confidence)
        swapped = formula(total[size:] - self.shifts) - formula(total[:size] + self.shifts)
        p = p_values(observed, swapped, exact)
        effects = effect_sizes(observed, draws, len(options.patients))
        columns = (reference, other, observed, low, high, p, np.full(len(p), np.nan), effects)
        return [Difference(*map(float, row)) for row in zip(*columns, strict=True)]


def _resample(pairs: Sequence[_Pair], options: _Options) -> bool:
    """Draws the same patients and the same swaps for all tables; returns whether the swaps are all there are."""
    if not pairs or len(options.patients) < 2:
        return False
    drawn = resampled_totals([pair.both for pair in pairs], options.resamples, options.seed)
    shifts, exact = swapped_shifts([pair.other - pair.reference for pair in pairs], options.draws, options.seed)
    for pair, draws, shift in zip(pairs, drawn, shifts, strict=True):
        pair.draws, pair.shifts = draws, shift
    return exact


def _by_class(pair: _Pair, names: Sequence[str], options: _Options, exact: bool) -> tuple[ClassDifference, ...]:
    """F1 of each class; those with enough support are tested, and corrected for each other."""
    true, reference_named, _ = blocks(np.asarray(pair.reference.sum(axis=0), dtype=float))
    _, other_named, _ = blocks(np.asarray(pair.other.sum(axis=0), dtype=float))
    differences = pair.differences(_class_f1, options, exact)
    tested = np.array(
        [one.p if support >= MIN_SUPPORT else np.nan for one, support in zip(differences, true, strict=True)]
    )
    rows = zip(names, true, reference_named, other_named, differences, tested, holm(tested), strict=True)
    found = [
        ClassDifference(name, int(t), int(r), int(o), replace(one, p=float(p), adjusted=float(adjusted)))
        for name, t, r, o, one, p, adjusted in rows
    ]
    return tuple(sorted(found, key=lambda one: (-one.support, one.name)))


def _class_f1(sums: Floats) -> Floats:
    """Of the blocks true, named, correct: [..., 3 x classes] to [..., classes]."""
    return precision_recall_f1(sums)[..., -(sums.shape[-1] // 3) :]


def _corrected(runs: Mapping[str, Mapping[str, Difference]]) -> tuple[dict[str, dict[str, Difference]], int]:
    """Every value of every run, corrected as one family; and how many tests that are."""
    p = np.array([one.p for values in runs.values() for one in values.values()])
    adjusted = iter(holm(p))
    found = {
        name: {key: replace(one, adjusted=float(next(adjusted))) for key, one in values.items()}
        for name, values in runs.items()
    }
    return found, int(np.sum(~np.isnan(p)))
