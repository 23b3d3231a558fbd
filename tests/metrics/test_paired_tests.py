"""The randomisation test against scipy's, under the null, and at its edges; Holm by hand; d_z of a mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import kstest, permutation_test

from xrayexp.metrics.base import Floats
from xrayexp.metrics.formulas import means
from xrayexp.metrics.paired_tests import effect_sizes, holm, p_values, swapped_shifts


def p_of_means(reference: Floats, other: Floats, draws: int, seed: int = 0) -> tuple[float, bool]:
    """Of the difference of two means over patients: [patients] each."""
    tables = [np.stack([side, np.ones(len(side))], axis=1) for side in (reference, other)]
    [shifts], exact = swapped_shifts([tables[1] - tables[0]], draws, seed)
    totals = [table.sum(axis=0) for table in tables]
    swapped = means(totals[1] - shifts) - means(totals[0] + shifts)
    return float(p_values(means(totals[1]) - means(totals[0]), swapped, exact)[0]), exact


def test_it_is_scipys_permutation_test() -> None:
    generator = np.random.default_rng(3)
    reference = generator.normal(size=9)
    other = reference + generator.normal(0.3, 0.6, size=9)
    expected = permutation_test(
        (other, reference), lambda a, b: a.mean() - b.mean(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    p, exact = p_of_means(reference, other, 2**9)
    assert exact
    assert p == pytest.approx(expected)
    random, exact = p_of_means(reference, other, 2**9 - 1)
    assert not exact
    assert random == pytest.approx(expected, abs=0.06)


def test_p_values_are_uniform_under_the_null() -> None:
    generator = np.random.default_rng(0)
    pairs = generator.normal(size=(300, 2, 25))
    found = [p_of_means(a, b, draws=199, seed=seed)[0] for seed, (a, b) in enumerate(pairs)]
    assert kstest(found, "uniform").pvalue > 0.01


def test_a_difference_everywhere_is_found_and_no_p_is_zero() -> None:
    p, exact = p_of_means(np.zeros(40), np.ones(40), 1000)
    assert not exact
    assert p == pytest.approx(1 / 1001)


def test_patients_that_agree_do_not_matter_and_sparse_tables_are_the_same() -> None:
    changes = np.zeros((500, 2))
    changes[[3, 70, 400], 0] = 1.0, -1.0, 1.0
    [dense], exact = swapped_shifts([changes], 8, 0)
    [sparse], _ = swapped_shifts([csr_array(changes)], 8, 0)
    assert exact
    assert sorted(dense[:, 0]) == [-1, 0, 0, 0, 1, 1, 1, 2]
    assert (dense == sparse).all()


def test_all_tables_see_the_same_swaps() -> None:
    changes = np.random.default_rng(1).normal(size=(30, 1))
    shifts, _ = swapped_shifts([changes, 2 * changes], 100, 0)
    assert np.allclose(2 * shifts[0], shifts[1])


def test_swaps_without_a_value_count_as_extreme() -> None:
    swapped = np.array([[0.0], [np.nan], [0.5]])
    assert p_values(np.array([0.2]), swapped, exact=False) == pytest.approx([3 / 4])
    assert np.isnan(p_values(np.array([np.nan]), swapped, exact=False)).all()


def test_holm_by_hand() -> None:
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert np.allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02], equal_nan=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_value_and_bonferroni(values: list[float]) -> None:
    p = np.array(values)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, p * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_the_effect_of_a_mean_is_cohens_dz() -> None:
    generator = np.random.default_rng(0)
    change = generator.normal(0.4, 1.0, size=200)
    draws = generator.choice(change, size=(2000, 200)).mean(axis=1)[:, None]
    found = effect_sizes(np.array([change.mean()]), draws, 200)
    assert found == pytest.approx([change.mean() / change.std(ddof=1)], rel=0.05)
    assert effect_sizes(np.zeros(1), np.zeros((9, 1)), 200) == [0]
    assert np.isnan(effect_sizes(np.ones(1), np.ones((9, 1)), 200)).all()
