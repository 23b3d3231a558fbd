"""The order of samples: a permutation an epoch, known from seed and epoch alone, continued from a cursor."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.curriculum import Shuffled
from xrayexp.data.sampler import MEGABATCH, Cursor, Draw, EffectiveBatchSampler

samples = st.integers(1, 200)
batch_sizes = st.integers(1, 50)
seeds = st.integers(0, 2**32 - 1)
epochs = st.integers(0, 1000)


def sampler(count: int, batch_size: int, seed: int, cursor: Cursor | None = None) -> EffectiveBatchSampler:
    return EffectiveBatchSampler(Shuffled(count, seed), count, batch_size, cursor or Cursor())


def trained(order: EffectiveBatchSampler, steps: int) -> list[list[Draw]]:
    """The batches of the next `steps` steps, iterated as Lightning does: once an epoch."""
    batches: list[list[Draw]] = []
    while len(batches) < steps:
        for batch in order:
            batches.append(batch)
            order.cursor.advance(len(order))
            if len(batches) == steps:
                break
    return batches


@given(samples, batch_sizes, seeds, epochs)
def test_an_epoch_is_a_permutation_in_full_batches(count: int, batch_size: int, seed: int, epoch: int) -> None:
    order = sampler(count, batch_size, seed)
    plan = order.plan(epoch)
    assert sorted(draw.sample for batch in plan for draw in batch) == list(range(count))
    assert [draw.place for batch in plan for draw in batch] == list(range(epoch * count, (epoch + 1) * count))
    assert all(len(batch) == batch_size for batch in plan[:-1])
    assert 1 <= len(plan[-1]) <= batch_size
    assert len(order) == len(plan) == math.ceil(count / batch_size)


@given(samples, batch_sizes, seeds, epochs)
def test_the_order_is_pure_in_seed_and_epoch(count: int, batch_size: int, seed: int, epoch: int) -> None:
    first, second = sampler(count, batch_size, seed), sampler(count, batch_size, seed)
    list(first)
    first.plan(epoch + 1)
    assert first.plan(epoch) == second.plan(epoch)


def test_epochs_and_seeds_differ() -> None:
    orders = {str(sampler(50, 8, seed).plan(epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@given(st.integers(1, 60), st.integers(1, 20), seeds, st.integers(0, 40), st.integers(1, 40))
def test_training_continues_where_it_was_cut_off(
    count: int, batch_size: int, seed: int, before: int, after: int
) -> None:
    whole = trained(sampler(count, batch_size, seed), before + after)
    cut = sampler(count, batch_size, seed)
    assert trained(cut, before) == whole[:before]
    resumed = sampler(count, batch_size, seed, Cursor(cut.cursor.epoch, cut.cursor.done))
    assert trained(resumed, after) == whole[before:]


@given(st.integers(1, 30), st.integers(0, 100))
def test_the_cursor_rolls_over(batches: int, steps: int) -> None:
    cursor = Cursor()
    for _ in range(steps):
        cursor.advance(batches)
    assert (cursor.epoch, cursor.done) == divmod(steps, batches)


def test_the_length_stays_that_of_an_epoch_when_the_cursor_is_inside() -> None:
    """Lightning adds what was fetched to where it stood."""
    order = sampler(10, 2, 0, Cursor(epoch=3, done=4))
    assert len(order) == 5
    assert len(list(order)) == 1


def test_the_position_is_read_when_the_iteration_begins() -> None:
    """A worker prefetches: by the time a batch is asked for, the cursor may stand elsewhere."""
    order = sampler(10, 2, 0)
    batches = iter(order)
    order.cursor.advance(len(order))
    assert list(batches) == order.plan(0)


@given(samples, batch_sizes, seeds, st.integers(1, 5))
def test_ranks_share_every_batch(count: int, batch_size: int, seed: int, ranks: int) -> None:
    whole = sampler(count, batch_size, seed)
    parts = [
        list(EffectiveBatchSampler(Shuffled(count, seed), count, batch_size, Cursor(), rank=rank, ranks=ranks))
        for rank in range(ranks)
    ]
    for number, batch in enumerate(whole.plan(0)):
        shares = [part[number] for part in parts]
        assert [shares[place % ranks][place // ranks] for place in range(len(batch))] == batch  # dealt out in turn
        assert sum(map(len, shares)) == len(batch)


@given(samples, batch_sizes, seeds)
def test_grouping_by_length_moves_samples_and_loses_none(count: int, batch_size: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(10, 100, size=count)
    plain = EffectiveBatchSampler(Shuffled(count, seed), count, batch_size, Cursor())
    grouped = EffectiveBatchSampler(Shuffled(count, seed), count, batch_size, Cursor(), lengths=lengths.tolist())
    assert sorted(grouped.drawn(0)) == list(range(count))

    def longest(order: EffectiveBatchSampler) -> int:
        """Of every batch, added up: what padding costs where all batches are full."""
        return sum(max(lengths[draw.sample] for draw in batch) for batch in order.plan(0))

    assert longest(grouped) <= longest(plain)
    size = MEGABATCH * batch_size
    for start in range(0, count, size):
        assert set(grouped.drawn(0)[start : start + size]) == set(plain.drawn(0)[start : start + size])
