"""IoU, generalised IoU and pairing, against pixels that are counted and permutations that are tried."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask

from xrayexp.data.overlap import best_pairs, generalised_iou, iou

SIDE = 12


@st.composite
def box(draw: st.DrawFn) -> tuple[int, int, int, int]:
    y0, x0 = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    return y0, x0, draw(st.integers(y0 + 1, SIDE)), draw(st.integers(x0 + 1, SIDE))


def cells(one: tuple[int, int, int, int]) -> set[tuple[int, int]]:
    y0, x0, y1, x1 = one
    return {(y, x) for y in range(y0, y1) for x in range(x0, x1)}


@given(box(), box())
def test_overlaps_are_those_of_counted_pixels(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> None:
    a, b = cells(one), cells(other)
    ys, xs = zip(*(a | b), strict=True)
    enclosing = (max(ys) - min(ys) + 1) * (max(xs) - min(xs) + 1)
    some, others = np.array([one], dtype=float), np.array([other], dtype=float)
    counted = len(a & b) / len(a | b)
    assert iou(some, others)[0, 0] == pytest.approx(counted)
    assert generalised_iou(some, others)[0, 0] == pytest.approx(counted - (enclosing - len(a | b)) / enclosing)


@given(st.lists(box(), min_size=1, max_size=5), st.lists(box(), min_size=1, max_size=5))
def test_overlaps_are_pycocotools(some: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> None:
    a, b = np.array(some, dtype=float), np.array(others, dtype=float)
    sized = [np.array([(x0, y0, x1 - x0, y1 - y0) for y0, x0, y1, x1 in c], dtype=float) for c in (some, others)]
    theirs = mask.iou(*sized, [0] * len(others))
    np.testing.assert_allclose(iou(a, b), theirs)
    assert (np.abs(generalised_iou(a, b)) <= 1).all()
    np.testing.assert_allclose(np.diag(generalised_iou(a, a)), 1)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32))
def test_no_other_pairing_has_a_larger_sum(rows: int, columns: int, seed: int) -> None:
    gain = np.random.default_rng(seed).uniform(-1, 1, (rows, columns))
    wide = gain if rows <= columns else gain.T
    best = max(sum(wide[i, j] for i, j in enumerate(order)) for order in permutations(range(wide.shape[1]), len(wide)))
    left, right = best_pairs(gain)
    assert len(left) == min(rows, columns)
    assert gain[left, right].sum() == pytest.approx(best)
