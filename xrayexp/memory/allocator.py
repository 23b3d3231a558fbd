"""What torch's caching allocator reserves for a sequence of allocations: a model of CUDACachingAllocator.

Source: c10/cuda/CUDACachingAllocator.cpp of torch 2.13, for one stream and without expandable segments: sizes are
rounded, blocks are cut from segments of a few sizes, the best fitting free block is used, and neighbours that are free
are joined.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from xrayexp.memory.trace import Event

MIB = 2**20
ROUNDING = 512  # bytes
_SMALL, _SMALL_SEGMENT = MIB, 2 * MIB
_MEDIUM, _MEDIUM_SEGMENT = 10 * MIB, 20 * MIB
_LARGE_ROUNDING = 2 * MIB


def rounded(size: int) -> int:
    """Bytes of the block that a request gets."""
    return max(ROUNDING, -(-size // ROUNDING) * ROUNDING)


def reserved_peak(events: Iterable[Event]) -> int:
    """Bytes that the allocator has taken from the device at most."""
    allocator = CachingAllocator()
    for event in events:
        if event.size:
            allocator.allocate(event.block, event.size)
        else:
            allocator.release(event.block)
    return allocator.reserved


@dataclass(eq=False)
class _Block:
    """A part of a segment; `before` and `after` are its neighbours in it."""

    size: int
    address: int
    small: bool
    free: bool = False
    before: _Block | None = None
    after: _Block | None = None


@dataclass
class CachingAllocator:
    """The state of the allocator.

    Attributes:
        reserved: bytes of all segments; nothing is given back, as long as the device has room.
    """

    reserved: int = 0
    _live: dict[int, _Block] = field(default_factory=dict)
    # Free blocks by size and address, of the small and of the large pool.
    _free: dict[bool, list[tuple[int, int]]] = field(default_factory=lambda: {True: [], False: []})
    _at: dict[int, _Block] = field(default_factory=dict)  # free blocks by address

    def allocate(self, key: int, size: int) -> None:
        """Finds or makes a block for `size` bytes, known as `key` from then on."""
        size = rounded(size)
        small = size <= _SMALL
        pool = self._free[small]
        place = bisect_left(pool, (size, 0))
        block = self._take(pool[place]) if place < len(pool) else self._segment(size, small)
        self._cut(block, size)
        self._live[key] = block

    def release(self, key: int) -> None:
        """Frees a block and joins it with free neighbours."""
        block = self._live.pop(key)
        for other in (block.before, block.after):
            if other is not None and other.free:
                self._take((other.size, other.address))
                self._join(block, other)
        self._put(block)

    def _segment(self, size: int, small: bool) -> _Block:
        if small:
            length = _SMALL_SEGMENT
        elif size < _MEDIUM:
            length = _MEDIUM_SEGMENT
        else:
            length = -(-size // _LARGE_ROUNDING) * _LARGE_ROUNDING
        block = _Block(length, self.reserved, small)
        self.reserved += length
        return block

    def _cut(self, block: _Block, size: int) -> None:
        left = block.size - size
        if left < (ROUNDING if block.small else _SMALL + 1):
            return
        rest = _Block(left, block.address + size, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.size, block.after = size, rest
        self._put(rest)

    def _join(self, block: _Block, other: _Block) -> None:
        if other is block.before:
            block.address, block.before = other.address, other.before
            if other.before is not None:
                other.before.after = block
        else:
            block.after = other.after
            if other.after is not None:
                other.after.before = block
        block.size += other.size

    def _put(self, block: _Block) -> None:
        block.free = True
        insort(self._free[block.small], (block.size, block.address))
        self._at[block.address] = block

    def _take(self, entry: tuple[int, int]) -> _Block:
        block = self._at.pop(entry[1])
        pool = self._free[block.small]
        del pool[bisect_left(pool, entry)]
        block.free = False
        return block
