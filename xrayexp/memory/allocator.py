"""What torch's caching allocator reserves for a sequence of allocations: a model of CUDACachingAllocator.

Source: c10/cuda/CUDACachingAllocator.cpp of torch 2.13, for one stream: sizes are rounded, blocks are cut from segments
of a few sizes, the best fitting free block is used, and neighbours that are free are joined. With expandable segments
there is one segment for small and one for large blocks, and it grows at its end by pages.
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
_SMALL_PAGE, _LARGE_PAGE = 2 * MIB, 20 * MIB  # by which expandable segments grow
_SMALL_ADDRESSES = 2**60  # where the expandable segment of small blocks begins; that of large ones begins at 0


def rounded(size: int) -> int:
    """Bytes of the block that a request gets."""
    return max(ROUNDING, -(-size // ROUNDING) * ROUNDING)


def reserved_peak(events: Iterable[Event], *, expandable_segments: bool = False) -> int:
    """Bytes that the allocator has taken from the device at most."""
    allocator = CachingAllocator(expandable_segments)
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
        expandable_segments: whether segments grow.
        reserved: bytes of all segments; nothing is given back, as long as the device has room.
    """

    expandable_segments: bool = False
    reserved: int = 0
    _live: dict[int, _Block] = field(default_factory=dict)
    # Free blocks by size and address, of the small and of the large pool.
    _free: dict[bool, list[tuple[int, int]]] = field(default_factory=lambda: {True: [], False: []})
    _at: dict[int, _Block] = field(default_factory=dict)  # free blocks by address
    _last: dict[bool, _Block] = field(default_factory=dict)  # the last block of each expandable segment

    def allocate(self, key: int, size: int) -> None:
        """Finds or makes a block for `size` bytes, known as `key` from then on."""
        size = rounded(size)
        small = size <= _SMALL
        block = self._best_fit(size, small)
        if block is None:
            block = self._grown(size, small) if self.expandable_segments else self._segment(size, small)
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

    def _best_fit(self, size: int, small: bool) -> _Block | None:
        """The smallest free block that is large enough; the one that could grow counts as larger than all."""
        pool = self._free[small]
        place = bisect_left(pool, (size, 0))
        if place == len(pool):
            return None
        if self._at[pool[place][1]] is self._last.get(small) and place + 1 < len(pool):
            place += 1
        return self._take(pool[place])

    def _grown(self, size: int, small: bool) -> _Block:
        """The end of an expandable segment, with as many new pages as it takes."""
        last, page = self._last.get(small), _SMALL_PAGE if small else _LARGE_PAGE
        free = last if last is not None and last.free else None
        length = -(-(size - (free.size if free else 0)) // page) * page
        self.reserved += length
        if free is not None:
            self._take((free.size, free.address))
            free.size += length
            return free
        address = last.address + last.size if last else _SMALL_ADDRESSES * small
        block = _Block(length, address, small, before=last)
        if last is not None:
            last.after = block
        self._last[small] = block
        return block

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
        if left < (ROUNDING if block.small or self.expandable_segments else _SMALL + 1):
            return
        rest = _Block(left, block.address + size, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.size, block.after = size, rest
        if block is self._last.get(block.small):
            self._last[block.small] = rest
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
        if other is self._last.get(block.small):
            self._last[block.small] = block

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
