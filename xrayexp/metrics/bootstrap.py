"""The bootstrap over patients, with bias-corrected and accelerated (BCa) intervals.

Efron, Better Bootstrap Confidence Intervals (JASA 82, 1987); Efron & Tibshirani, An Introduction to the Bootstrap
(1993), chapter 14.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.special import ndtr, ndtri

from xrayexp.metrics.base import Floats, Table

# An interval from the few resamples in which a value happens to exist describes those, not the value.
MIN_DEFINED = 0.95

NO_SPREAD = "every resample has this value"
ONE_SIDED = "percentiles: all resamples lie on one side of the value"
NO_ACCELERATION = "percentiles: the value does not exist, or does not change, without one of the patients"

_CHUNK_CELLS = 2**22  # resamples x patients held at once: 16 MB
_JACKKNIFE_CELLS = 2**20  # patients x columns held at once: 8 MB, and formulas make several of it


def by_patient(table: Table, patient_of: NDArray[np.integer], patients: int) -> Table:
    """Sums the rows of each patient's reports: [reports, columns] to [patients, columns]."""
    reports = len(patient_of)
    whose = csr_array((np.ones(reports), (patient_of, np.arange(reports))), shape=(patients, reports))
    return whose @ table


def resampled_totals(tables: Sequence[Table], resamples: int, seed: int) -> list[Floats]:
    """Draw as many patients as there are, with replacement, and sum their rows.

    Patients are drawn, not images: the images of one patient are not independent observations. All tables see the
    same draws.

    Args:
        tables: each [patients, columns].
        resamples: how many times to draw.
        seed: of the draws; the same seed gives the same draws for the same number of patients.

    Returns:
        For each table [resamples, columns].
    """
    if not tables:
        return []
    patients = tables[0].shape[0]
    factors = [_factor(table) for table in tables]
    generator = np.random.default_rng(seed)
    totals = [np.empty((resamples, table.shape[1])) for table in tables]
    step = max(1, _CHUNK_CELLS // max(1, patients))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = _draws(generator, stop - start, patients)
        for total, factor in zip(totals, factors, strict=True):
            total[start:stop] = (factor @ drawn.astype(factor.dtype, copy=False)).T
    return totals


def acceleration(table: Table, formula: Callable[[Floats], Floats]) -> Floats:
    """The constant a of BCa: a sixth of the skewness of the jackknife, over patients.

    Args:
        table: [patients, columns].
        formula: from sums [..., columns] to values [..., values].

    Returns:
        [values]; NaN where a value does not exist without one of the patients, or is the same without any.
    """
    patients = table.shape[0]
    total = np.asarray(table.sum(axis=0), dtype=float)
    value = formula(total)
    moments = np.zeros((3, *value.shape))
    step = max(1, _JACKKNIFE_CELLS // max(1, len(total), value.size))
    for start in range(0, patients, step):
        rows = table[start : start + step]
        without = total - (rows.toarray() if issparse(rows) else rows)
        change = value - formula(without)  # small numbers of either sign: their powers cancel little
        power = change
        for moment in moments:
            moment += power.sum(axis=0)
            power = power * change
    first, second, third = moments
    mean = first / patients
    squares = second - patients * mean**2
    cubes = third - 3 * mean * second + 2 * patients * mean**3
    # Rounding leaves 1e-33 where nothing changes.
    changes = squares > 1e-12 * np.maximum(second, 1e-18)
    skewness = np.full(value.shape, np.nan)
    skewness[changes] = cubes[changes] / (6 * squares[changes] ** 1.5)
    return skewness


def bca_interval(
    value: Floats, draws: Floats, accelerations: Floats, confidence: float
) -> tuple[Floats, Floats, list[str]]:
    """The BCa interval of every value, or where it does not exist that of the plain percentiles.

    Args:
        value: [values], as observed.
        draws: [resamples, values]; NaN where the value is undefined in a resample.
        accelerations: [values], of `acceleration`.
        confidence: between 0 and 1.

    Returns:
        (low, high, notes), each [values]. Low and high are NaN where a value is undefined in more than
        1 - MIN_DEFINED of the draws; a note says why an interval is that of the percentiles.
    """
    defined = ~np.isnan(draws)
    counts = defined.sum(axis=0)
    enough = (counts >= MIN_DEFINED * len(draws)) & (counts > 0) & ~np.isnan(value)
    tail = (1 - confidence) / 2
    below = ((draws < value).sum(axis=0) + (draws <= value).sum(axis=0)) / (2 * np.maximum(counts, 1))
    inside = (below > 0) & (below < 1)
    ordered = np.sort(draws, axis=0)  # NaN last
    steady = enough & (ordered[0] == ordered[np.maximum(counts, 1) - 1, np.arange(len(value))])
    usable = enough & inside & ~steady & ~np.isnan(accelerations)
    bias = ndtri(np.where(inside, below, 0.5))
    slope = np.where(usable, accelerations, 0.0)
    ends = np.empty((2, len(value)))
    for end, share in zip(ends, (tail, 1 - tail), strict=True):
        moved = bias + ndtri(share)
        corrected = ndtr(bias + moved / (1 - slope * moved))
        end[:] = _quantiles(ordered, counts, np.where(usable, corrected, share))
    ends[:, ~enough] = np.nan
    reasons = np.select([~enough | usable, steady, ~inside], ["", NO_SPREAD, ONE_SIDED], NO_ACCELERATION)
    return ends[0], ends[1], [str(reason) for reason in reasons]


def _quantiles(ordered: Floats, counts: NDArray[np.integer], shares: Floats) -> Floats:
    """Of each column of [draws, values], sorted with NaN last, its own quantile, linearly between neighbours."""
    place = shares * np.maximum(counts - 1, 0)
    left = np.floor(place).astype(int)
    right = np.minimum(left + 1, np.maximum(counts - 1, 0))
    columns = np.arange(ordered.shape[1])
    low, high = ordered[left, columns], ordered[right, columns]
    quantiles: Floats = low + (place - left) * (high - low)
    return quantiles


def _factor(table: Table) -> Any:
    """[columns, patients], ready to be multiplied: float32 where that is exact, for sums below 2**24; twice as fast."""
    values = table.data if issparse(table) else table
    exact = bool((values == np.rint(values)).all())
    return (csr_array(table.T) if issparse(table) else np.ascontiguousarray(table.T)).astype(
        np.float32 if exact else np.float64
    )


def _draws(generator: np.random.Generator, resamples: int, patients: int) -> NDArray[np.float32]:
    """How often each patient was drawn: [patients, resamples], each column summing to `patients`."""
    drawn = np.empty((resamples, patients), dtype=np.float32)
    for row in drawn:  # the multinomial counts, faster than Generator.multinomial for many patients
        row[:] = np.bincount(generator.integers(patients, size=patients, dtype=np.int32), minlength=patients)
    return np.ascontiguousarray(drawn.T)
