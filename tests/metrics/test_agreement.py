"""How far two models' outputs differ: by hand, and what holds for any logits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.metrics.agreement import agreement


def test_by_hand() -> None:
    """Probabilities 1/4 and 3/4 beside 1/2 and 1/2, then 9/10 and 1/10 beside themselves."""
    reference = [torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.9, 0.1]]).log()]
    other = [torch.tensor([[0.51, 0.51]]).log(), torch.tensor([[0.9, 0.1]]).log()]
    found = agreement(reference, other, ["normal", "nodule"], ["normal", "Nodule"])
    differences = [abs(math.log(0.51 / 0.25)), abs(math.log(0.51 / 0.75)), 0, 0]
    assert found.max_difference == pytest.approx(max(differences))
    assert found.mean_difference == pytest.approx(sum(differences) / 4)
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert found.divergence == pytest.approx(divergence / 2, rel=1e-5)
    assert found.same_token == 0.5  # of equal logits the first counts
    assert (found.reports, found.tokens, found.same_report) == (2, 2, 1)
    assert "same report for 1 of 2 images" in str(found)
    assert found.to_json()["same_token"] == 0.5


@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=3), seed=st.integers(0, 2**31), shift=st.floats(-9, 9)
)
def test_any_logits(lengths: list[int], seed: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    reference = [torch.randn(length, 11, generator=generator) for length in lengths]
    texts = [str(length) for length in lengths]
    same = agreement(reference, reference, texts, texts)
    assert (same.max_difference, same.divergence, same.same_token) == (0, 0, 1)
    assert same.tokens == sum(lengths)
    moved = agreement(reference, [logits + shift for logits in reference], texts, texts)
    assert moved.max_difference == pytest.approx(abs(shift), abs=1e-5)
    assert moved.divergence == pytest.approx(0, abs=1e-5)  # a constant changes no probability
    noisy = agreement(reference, [torch.randn(n, 11, generator=generator) for n in lengths], texts, texts)
    assert noisy.divergence > 0
    assert noisy.mean_difference <= noisy.max_difference
