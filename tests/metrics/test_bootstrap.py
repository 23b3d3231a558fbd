"""Resamples of patients, and BCa intervals against scipy's."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import bootstrap as scipys

from xrayexp.metrics import bootstrap
from xrayexp.metrics.base import Floats
from xrayexp.metrics.bootstrap import (
    MIN_DEFINED,
    NO_ACCELERATION,
    NO_SPREAD,
    ONE_SIDED,
    acceleration,
    bca_interval,
    resampled_totals,
)
from xrayexp.metrics.formulas import means


def totals(table: Floats, resamples: int, seed: int) -> Floats:
    [found] = resampled_totals([table], resamples, seed)
    return found


def share_interval(successes: Floats, trials: Floats, seed: int, resamples: int = 200) -> tuple[float, float]:
    """The 95 % interval of sum(successes) / sum(trials), both [patients]."""
    table = np.stack([successes, trials], axis=1)
    draws = means(totals(table, resamples, seed))
    [low], [high], _ = bca_interval(means(table.sum(axis=0)), draws, acceleration(table, means), 0.95)
    return float(low), float(high)


def test_every_resample_draws_as_many_patients_as_there_are() -> None:
    drawn = totals(np.eye(30), 50, seed=0)
    assert drawn.shape == (50, 30)
    assert (drawn.sum(axis=1) == 30).all()
    assert (drawn == drawn.round()).all()
    assert (drawn > 1).any()
    assert len(np.unique(drawn, axis=0)) == 50


def test_the_seed_decides() -> None:
    first, again, other = (totals(np.arange(40.0).reshape(20, 2), 30, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_cutting_into_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).integers(0, 5, size=(37, 4)).astype(float)
    whole, skewness = totals(table, 101, seed=1), acceleration(table, means)
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 37 * 7)
    monkeypatch.setattr(bootstrap, "_JACKKNIFE_CELLS", 4 * 5)
    assert (totals(table, 101, seed=1) == whole).all()
    assert acceleration(table, means) == pytest.approx(skewness)


def test_a_sparse_table_is_a_table_and_all_tables_see_the_same_draws() -> None:
    table = np.random.default_rng(0).integers(0, 3, size=(40, 5)) * np.random.default_rng(1).integers(0, 2, (40, 5))
    fractions = table / 7
    dense, sparse, seventh = resampled_totals([table, csr_array(table), fractions], 60, seed=2)
    assert (dense == sparse).all()
    assert seventh == pytest.approx(dense / 7, rel=1e-12)  # in float64: float32 would be off by 1e-7
    assert acceleration(csr_array(table), means) == pytest.approx(acceleration(table, means), nan_ok=True)


def test_memory_does_not_grow_with_resamples_times_patients() -> None:
    tracemalloc.start()
    try:
        totals(np.ones((20_000, 3)), 2000, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6  # all draws at once would be 160 MB


def test_the_interval_of_a_share_has_the_width_that_theory_gives() -> None:
    successes = np.repeat([1.0, 0.0], [280, 120])
    low, high = share_interval(successes, np.ones(400), seed=0, resamples=4000)
    half_width = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert (low, high) == pytest.approx((0.7 - half_width, 0.7 + half_width), abs=0.005)


@pytest.mark.parametrize("images_per_patient", [1, 10])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(images_per_patient: int) -> None:
    """Also where a patient's images all fail or succeed together, which an interval by image ignores."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        patients = generator.random(120) < 0.6
        low, high = share_interval(patients * float(images_per_patient), np.full(120, float(images_per_patient)), seed)
        covered += low <= 0.6 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_a_value_that_most_resamples_lack_has_no_interval() -> None:
    draws = np.tile(np.linspace(0, 1, 200)[:, None], 3)
    undefined = round(200 * (1 - MIN_DEFINED))
    draws[:undefined, 1] = np.nan
    draws[: undefined + 1, 2] = np.nan
    low, high, notes = bca_interval(np.full(3, 0.5), draws, np.zeros(3), 0.9)
    assert low[0] == pytest.approx(0.05)
    assert high[0] == pytest.approx(0.95)
    assert 0.05 < low[1] < np.nanquantile(draws[:, 1], 0.05)  # the value lies low among them: BCa moves the ends down
    assert np.isnan([low[2], high[2]]).all()
    assert notes == ["", "", ""]


@settings(max_examples=60, deadline=None)
@given(
    sample=arrays.arrays(np.float64, st.integers(3, 25), elements=st.floats(-5, 5).map(np.exp)),
    confidence=st.floats(0.5, 0.99),
    seed=st.integers(0, 2**31),
)
def test_the_interval_of_a_mean_is_scipys(sample: NDArray[np.float64], confidence: float, seed: int) -> None:
    """From the same resamples; the acceleration is ours."""
    assume(np.ptp(sample) > 1e-3 * sample.max())
    theirs = scipys(
        (sample,), np.mean, n_resamples=200, method="BCa", confidence_level=confidence, rng=np.random.default_rng(seed)
    )
    draws, (expected) = theirs.bootstrap_distribution, theirs.confidence_interval
    assume(draws.min() < sample.mean() < draws.max())
    table = np.stack([sample, np.ones(len(sample))], axis=1)
    found = acceleration(table, means)
    [low], [high], [note] = bca_interval(np.array([sample.mean()]), draws[:, None], found, confidence)
    assert note == ""
    assert (low, high) == pytest.approx(tuple(expected), rel=1e-6)


def test_a_skewed_sample_has_a_skewed_interval() -> None:
    """What the percentiles lack: Efron & Tibshirani's reason for BCa."""
    sample = np.random.default_rng(0).exponential(size=60) ** 2
    table = np.stack([sample, np.ones(60)], axis=1)
    draws = means(totals(table, 2000, seed=0))
    [skewness] = acceleration(table, means)
    [low], [high], _ = bca_interval(sample.mean(keepdims=True), draws, np.array([skewness]), 0.95)
    assert skewness > 0.05
    assert low > np.quantile(draws, 0.025)
    assert high > np.quantile(draws, 0.975)


@pytest.mark.parametrize(
    "value, draws, skewness, note",
    [
        (1.0, [1.0] * 40, 0.0, NO_SPREAD),
        (1.0, [*np.linspace(0, 0.9, 40)], 0.0, ONE_SIDED),
        (0.5, [*np.linspace(0, 1, 40)], np.nan, NO_ACCELERATION),
        (0.5, [*np.linspace(0, 1, 40)], 0.0, ""),
    ],
)
def test_where_bca_does_not_exist_the_percentiles_stand_in_and_say_so(
    value: float, draws: list[float], skewness: float, note: str
) -> None:
    low, high, notes = bca_interval(np.array([value]), np.array(draws)[:, None], np.array([skewness]), 0.9)
    assert notes == [note]
    if note:
        assert (low[0], high[0]) == pytest.approx(tuple(np.quantile(draws, [0.05, 0.95])))


def test_the_acceleration_does_not_exist_where_a_patient_decides_whether_the_value_does() -> None:
    only_one = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    constant = np.ones((5, 2))
    assert np.isnan(acceleration(only_one, means)).all()
    assert np.isnan(acceleration(constant, means)).all()
