"""The model of torch's caching allocator."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.memory.allocator import MIB, CachingAllocator, reserved_peak, rounded
from xrayexp.memory.trace import Event

SIZES = st.one_of(st.integers(1, 3 * MIB), st.integers(1, 64 * MIB))


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Allocations and releases in an order that a program could make."""
    events: list[Event] = []
    live: list[int] = []
    sizes = draw(st.lists(SIZES, min_size=1, max_size=40))
    for number, size in enumerate(sizes):
        events.append(Event(number, size, ""))
        live.append(number)
        while draw(st.booleans()) and live:
            place = draw(st.integers(0, len(live) - 1))
            events.append(Event(live.pop(place), 0, ""))
    return events


def live_peak(events: Sequence[Event]) -> int:
    live: dict[int, int] = {}
    peak = 0
    for event in events:
        if event.size:
            live[event.block] = rounded(event.size)
        else:
            del live[event.block]
        peak = max(peak, sum(live.values()))
    return peak


@given(histories())
def test_no_less_than_lives_and_no_more_than_everything(events: list[Event]) -> None:
    reserved = reserved_peak(events)
    assert reserved >= live_peak(events)
    everything = sum(max(20 * MIB, event.size + 2 * MIB) for event in events if event.size)
    assert reserved <= everything
    assert reserved % (2 * MIB) == 0


@given(histories())
def test_segments_that_grow_hold_what_lives(events: list[Event]) -> None:
    """They are mapped in pages of 2 and 20 MiB, and no more is mapped than was ever asked for."""
    reserved = reserved_peak(events, expandable_segments=True)
    assert reserved >= live_peak(events)
    assert reserved <= sum(rounded(event.size) for event in events if event.size) + 22 * MIB
    assert reserved % (2 * MIB) == 0


def test_segments_that_grow_are_not_cut_up() -> None:
    """A free end is lengthened, where a segment of fixed size would be useless."""
    growing: list[Event] = []
    for number in range(1, 11):
        growing += [Event(number, 40 * number * MIB, ""), Event(number, 0, "")]
    assert reserved_peak(growing, expandable_segments=True) == 400 * MIB
    assert reserved_peak(growing) == sum(40 * number for number in range(1, 11)) * MIB


def test_the_end_that_can_grow_is_taken_last() -> None:
    allocator = CachingAllocator(expandable_segments=True)
    allocator.allocate(0, 30 * MIB)
    allocator.allocate(1, 2 * MIB)
    allocator.allocate(2, 28 * MIB)
    allocator.release(0)
    allocator.release(2)  # 28 MiB at the end: the better fit
    allocator.allocate(3, 28 * MIB)
    allocator.allocate(4, 48 * MIB)  # the end is still free, and grows
    assert allocator.reserved == 80 * MIB


@given(histories())
def test_what_was_freed_is_used_again(events: list[Event]) -> None:
    """Blocks that live one after the other, a second time, need no new segment.

    Blocks that live at once may: a small one that takes another's place leaves too little of its own.
    """
    alone = [one for event in events if event.size for one in (event, Event(event.block, 0, ""))]
    again = [Event(event.block + 1000, event.size, "") for event in alone]
    assert reserved_peak([*alone, *again]) == reserved_peak(alone)


@pytest.mark.parametrize(
    "size,segment",
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (21 * MIB, 22 * MIB),
    ],
)
def test_sizes_of_segments(size: int, segment: int) -> None:
    assert reserved_peak([Event(0, size, "")]) == segment


def test_small_blocks_share_a_segment_and_large_ones_leave_rests() -> None:
    allocator = CachingAllocator()
    for key in range(4096):
        allocator.allocate(key, 512)
    assert allocator.reserved == 2 * MIB
    allocator.allocate(-1, 12 * MIB)
    allocator.release(-1)
    allocator.allocate(-2, 6 * MIB)  # cut from the 12 MiB
    allocator.allocate(-3, 6 * MIB)  # and its rest
    assert allocator.reserved == 14 * MIB
