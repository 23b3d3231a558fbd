"""Axes: where values lie, and which choices deserve one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from xrayexp.tracking.axis import axes_of, is_log, nice_ticks

NUMBERS = st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=12, unique=True)


@settings(max_examples=60)
@given(values=NUMBERS, log=st.booleans())
def test_numbers_lie_in_order_between_the_ends(values: list[float], log: bool) -> None:
    axes = axes_of([{"lr": value} for value in values], {"lr": log})
    if not axes:  # the same in so many digits as are shown
        assert len({f"{value:g}" for value in values}) == 1
        return
    [axis] = axes
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == pytest.approx((0, 1))
    ticks = axis.ticks()
    assert len(ticks) >= 2
    assert all(-1e-6 <= place <= 1 + 1e-6 for place, _ in ticks)
    assert [place for place, _ in ticks] == sorted(place for place, _ in ticks)


def test_words_gaps_and_scales() -> None:
    rows: list[dict[str, Any]] = [
        {"adapter": "lora", "r": 8, "lr": 1e-4, "seed": 1, "flag": True},
        {"adapter": "dora", "r": 16, "lr": 1e-2, "seed": 1, "flag": False},
        {"adapter": "none", "lr": 1e-3, "seed": 1, "flag": False},
        {},
    ]
    adapter, r, lr, flag = axes_of(rows, {})
    assert (adapter.words, adapter.gaps) == (("lora", "dora", "none"), False)
    assert [adapter.place(word) for word in adapter.words] == [0, 0.5, 1]
    assert (r.numbers, r.gaps, r.log) == ((8, 16), True, False)
    assert lr.log
    assert lr.place(1e-3) == pytest.approx(0.5)
    assert flag.words == ("True", "False")
    assert not axes_of(rows, {"lr": False})[2].log
    assert axes_of([{"r": 4}, {}, {"x": 1}], {})[0].place(4) == 0.5


def test_what_an_earlier_axis_says_has_none() -> None:
    rows: list[dict[str, Any]] = [
        {"adapter.name": "lora", "adapter.r": 8, "adapter.peft._target_": "L", "adapter.peft.r": 8, "adapter.use": 1},
        {"adapter.name": "dora", "adapter.r": 4, "adapter.peft._target_": "D", "adapter.peft.r": 4},
        {"adapter.name": "none"},
    ]
    assert [axis.key for axis in axes_of(rows, {})] == ["adapter.name", "adapter.r"]
    chance = [{"adapter.r": 8, "trainer.micro_batch": 8}, {"adapter.r": 16, "trainer.micro_batch": 16}]
    assert [axis.key for axis in axes_of(chance, {})] == ["adapter.r", "trainer.micro_batch"], "equal by chance"
    told = [{"name": "lora", "alpha": 16}, {"name": "dora", "alpha": 32}]
    assert [axis.key for axis in axes_of(told, {})] == ["name", "alpha"], "two values are worth an axis"


def test_what_a_distribution_says_of_its_scale() -> None:
    assert is_log(distribution_to_json(FloatDistribution(1e-4, 1, log=True))) is True
    assert is_log(distribution_to_json(FloatDistribution(1e-4, 1))) is False
    assert is_log(distribution_to_json(CategoricalDistribution([1, 2]))) is None


@settings(max_examples=60)
@given(ends=NUMBERS, log=st.booleans())
def test_ticks_are_few_and_within(ends: list[float], log: bool) -> None:
    low, high = min(ends), max(ends)
    ticks = nice_ticks(low, high, log)
    assert 2 <= len(ticks) <= 16
    assert all(low <= tick <= high for tick in ticks)
