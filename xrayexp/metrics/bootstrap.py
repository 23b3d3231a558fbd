"""The percentile bootstrap over patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrayexp.metrics.counts import Counts, Floats

# An interval from the few resamples in which a value happens to exist describes those, not the value.
MIN_DEFINED = 0.95

_CHUNK_CELLS = 2**22  # resamples x patients held at once: 16 MB


def resampled_totals(per_patient: Counts, resamples: int, seed: int) -> Counts:
    """Draw as many patients as there are, with replacement, and sum their rows.

    Patients are drawn, not images: the images of one patient are not independent observations.

    Args:
        per_patient: [patients, columns].
        resamples: how many times to draw.
        seed: of the draws; the same seed gives the same draws for the same number of patients.

    Returns:
        [resamples, columns].
    """
    patients, columns = per_patient.table.shape
    rows = per_patient.table.astype(np.float32)  # exact for sums of counts below 2**24, twice as fast
    generator = np.random.default_rng(seed)
    totals = np.empty((resamples, columns))
    step = max(1, _CHUNK_CELLS // max(1, patients))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        totals[start:stop] = _draws(generator, stop - start, patients) @ rows
    return Counts(totals)


def percentile_interval(draws: Floats, confidence: float) -> tuple[Floats, Floats]:
    """The central `confidence` share of the draws of each value.

    Args:
        draws: [resamples, values]; NaN where the value is undefined in a resample.
        confidence: between 0 and 1.

    Returns:
        (low, high), each [values]; NaN where a value is undefined in more than 1 - MIN_DEFINED of the draws.
    """
    tail = (1 - confidence) / 2
    ends = np.full((2, draws.shape[1]), np.nan)
    defined = (~np.isnan(draws)).mean(axis=0) >= MIN_DEFINED
    ends[:, defined] = np.nanquantile(draws[:, defined], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def _draws(generator: np.random.Generator, resamples: int, patients: int) -> NDArray[np.float32]:
    """How often each patient was drawn: [resamples, patients], each row summing to `patients`."""
    drawn = np.empty((resamples, patients), dtype=np.float32)
    for row in drawn:  # the multinomial counts, faster than Generator.multinomial for many patients
        row[:] = np.bincount(generator.integers(patients, size=patients), minlength=patients)
    return drawn
