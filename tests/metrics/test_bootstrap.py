from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from xrayexp.metrics import bootstrap
from xrayexp.metrics.bootstrap import MIN_DEFINED, percentile_interval, resampled_totals
from xrayexp.metrics.counts import Counts, Floats


def share_interval(successes: Floats, trials: Floats, seed: int, resamples: int = 400) -> tuple[float, float]:
    """The 95 % interval of sum(successes) / sum(trials), both [patients]."""
    totals = resampled_totals(Counts(np.stack([successes, trials], axis=1)), resamples, seed).table
    low, high = percentile_interval((totals[:, 0] / totals[:, 1])[:, None], 0.95)
    return float(low[0]), float(high[0])


def test_every_resample_draws_as_many_patients_as_there_are() -> None:
    identity = np.eye(30)
    drawn = resampled_totals(Counts(identity), 50, seed=0).table
    assert drawn.shape == (50, 30)
    assert (drawn.sum(axis=1) == 30).all()
    assert (drawn == drawn.round()).all()
    assert (drawn > 1).any()
    assert len(np.unique(drawn, axis=0)) == 50


def test_the_seed_decides() -> None:
    counts = Counts(np.arange(40.0).reshape(20, 2))
    first, again, other = (resampled_totals(counts, 30, seed).table for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_cutting_into_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(np.random.default_rng(0).integers(0, 5, size=(37, 4)).astype(float))
    whole = resampled_totals(counts, 101, seed=1).table
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 37 * 7)
    assert (resampled_totals(counts, 101, seed=1).table == whole).all()


def test_memory_does_not_grow_with_resamples_times_patients() -> None:
    counts = Counts(np.ones((20_000, 3)))
    tracemalloc.start()
    try:
        resampled_totals(counts, 500, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25e6  # all draws at once would be 40 MB


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
    low, high = percentile_interval(draws, 0.9)
    assert low[0] == pytest.approx(0.05)
    assert high[0] == pytest.approx(0.95)
    assert low[1] > low[0]  # of the resamples that have it, here the larger ones
    assert np.isnan([low[2], high[2]]).all()
