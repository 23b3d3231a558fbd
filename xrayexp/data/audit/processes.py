"""A function applied to many items in several processes, which an item that kills its process cannot stop.

Decoders of compressed images are written in C: a hostile file may end the process that reads it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 8  # items that a process is given at once
AHEAD = 2  # chunks that wait for every process: few, since a crash brings all of them under suspicion


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | None]]:
    """Yields every item with its result, in the order in which they are done.

    Args:
        function: importable, for processes that start afresh.
        items: arguments.
        workers: number of processes.

    Returns:
        Pairs; the result is None for an item that ended its process, as the first in a new one too.

    Raises:
        Exception: what the function raises.
    """
    waiting = deque(tuple(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK))
    while waiting:
        doubtful: list[Item] = []
        yield from _until_a_crash(function, waiting, workers, doubtful)
        yield from _one_by_one(function, deque(doubtful))


def _until_a_crash(
    function: Callable[[Item], Result], waiting: deque[tuple[Item, ...]], workers: int, doubtful: list[Item]
) -> Iterator[tuple[Item, Result]]:
    """Works on what is waiting; when a process dies, what was under way then goes to `doubtful`."""
    running: dict[Future[list[Result]], tuple[Item, ...]] = {}
    with _pool(min(workers, len(waiting))) as pool:
        try:
            while (waiting and not doubtful) or running:
                while waiting and not doubtful and len(running) < AHEAD * workers:
                    running[pool.submit(_each, function, waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    chunk = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        doubtful.extend(chunk)
                    else:
                        yield from zip(chunk, future.result(), strict=True)
        except BrokenProcessPool:  # noticed while a chunk was handed over
            doubtful.extend(item for chunk in running.values() for item in chunk)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_by_one(function: Callable[[Item], Result], doubtful: deque[Item]) -> Iterator[tuple[Item, Result | None]]:
    """In a process after the other; an item is guilty that ends one in which it is the first."""
    while doubtful:
        with _pool(1) as pool:
            first = True
            try:
                while doubtful:
                    result = pool.submit(function, doubtful[0]).result()
                    yield doubtful.popleft(), result
                    first = False
            except BrokenProcessPool:
                if first:
                    yield doubtful.popleft(), None


def _each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_parent)


def _follow_parent() -> None:
    """Leaves Ctrl-C to the parent, and ends when the parent has been killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
