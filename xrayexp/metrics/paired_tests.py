"""Is the difference of two runs more than chance: the paired randomisation test, Holm's correction, an effect size.

Under the null hypothesis the two runs are exchangeable: for every patient it is a toss which of them said what. So
the rows of random patients are swapped, and the difference is computed anew (Noreen, Computer-Intensive Methods for
Testing Hypotheses, 1989; Yeh, More accurate tests for the statistical significance of result differences, COLING
2000). Patients are swapped, not images: the images of one patient are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from xrayexp.metrics.base import Floats, Table

_CHUNK_CELLS = 2**22  # swaps x patients held at once: 16 MB
_ROUNDING = 1e-12  # two sums in another order differ by less


def swapped_shifts(differences: Sequence[Table], draws: int, seed: int) -> tuple[list[Floats], bool]:
    """What swapping the rows of some patients takes from the one run's sums and gives to the other's.

    Only patients whose rows differ matter. Where all their swaps are no more than `draws`, each is made once, which
    makes the test exact.

    Args:
        differences: each [patients, columns], the one run's rows less the other's; all see the same swaps.
        draws: how many swaps to draw, at least 1.
        seed: of the swaps.

    Returns:
        For each table the shifts [swaps, columns], and whether these are all the swaps that there are.
    """
    differing = np.flatnonzero(np.any([_changes(table) for table in differences], axis=0))
    transposed = [_transposed(table[differing]) for table in differences]
    exact = len(differing) < 63 and 2 ** len(differing) <= draws
    patterns = _all_swaps(len(differing)) if exact else _random_swaps(len(differing), draws, seed)
    parts: list[list[Floats]] = [[] for _ in differences]
    for swaps in patterns:  # [patients, some swaps]
        for part, table in zip(parts, transposed, strict=True):
            part.append((table @ swaps).T)
    return [np.concatenate(part) for part in parts], exact


def p_values(observed: Floats, swapped: Floats, exact: bool) -> Floats:
    """The two-sided p-value of every difference.

    Random swaps count the observed pairing as one more (Phipson & Smyth, Permutation p-values should never be zero,
    2010): no p-value is 0. A swap in which the value does not exist counts as one as extreme.

    Args:
        observed: differences [values].
        swapped: the differences after each swap, [swaps, values]; NaN where one does not exist.
        exact: whether these are all swaps.

    Returns:
        [values]; NaN where there is no difference to test.
    """
    reached = ~(np.abs(swapped) < np.abs(observed) - _ROUNDING)
    more = 0 if exact else 1
    found: Floats = (reached.sum(axis=0) + more) / (len(swapped) + more)
    found[np.isnan(observed)] = np.nan
    return found


def holm(p: Floats) -> Floats:
    """P-values adjusted for their number by Holm's step-down method (Scandinavian Journal of Statistics 6, 1979).

    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection at alpha, however the
    tests depend on each other.

    Args:
        p: [tests]; NaN is no test, and stays.
    """
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def effect_sizes(difference: Floats, draws: Floats, patients: int) -> Floats:
    """Cohen's d_z: the difference in standard deviations of what one patient contributes to it.

    For the mean of a score per patient it is the mean of the paired differences over their standard deviation (Cohen,
    Statistical Power Analysis, 1988, section 2.3.5). For other metrics the bootstrap's standard error, times the root
    of the number of patients, stands in for it. Unlike a p-value it does not grow with the test set; 0.2 is called
    small, 0.5 medium and 0.8 large.

    Args:
        difference: [values].
        draws: of the bootstrap by patient, [resamples, values].
        patients: in each resample.

    Returns:
        [values]; 0 for no difference, NaN where nothing varies or there are fewer than two draws.
    """
    defined = ~np.isnan(draws)
    counts = defined.sum(axis=0)
    mean = np.where(defined, draws, 0).sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(defined, (draws - mean) ** 2, 0).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(counts - 1, 1))
    effect = np.full(difference.shape, np.nan)
    np.divide(difference, spread * np.sqrt(patients), out=effect, where=(counts > 1) & (spread > _ROUNDING))
    effect[difference == 0] = 0.0
    return effect


def _changes(table: Table) -> NDArray[np.bool_]:
    """The patients with a difference in any column, [patients]."""
    cells: Any = abs(table)
    return np.asarray(cells.sum(axis=1)).ravel() > 0


def _transposed(table: Table) -> Any:
    """[columns, patients]."""
    return csr_array(table.T) if issparse(table) else np.ascontiguousarray(table.T)


def _all_swaps(patients: int) -> Iterator[NDArray[np.float64]]:
    """[patients, 2 ** patients]: the binary digits of 0, 1, 2 ..."""
    numbers = np.arange(2**patients)
    yield (numbers >> np.arange(patients)[:, None] & 1).astype(float)


def _random_swaps(patients: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """[patients, some of the draws], a toss for every patient and draw."""
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // max(1, patients))
    for start in range(0, draws, step):
        yield generator.integers(2, size=(patients, min(step, draws - start)), dtype=np.int8).astype(float)
