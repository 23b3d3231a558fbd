"""Shows how far a loop is: a bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

log = logging.getLogger(__name__)

LINE_INTERVAL = 10.0  # seconds between plain lines


def is_watched() -> bool:
    """Whether a person sees the output as it comes, so that a bar makes sense."""
    return sys.stdout.isatty()


def watch(
    title: str, items: Iterable[Item], total: int, note: Callable[[Item], str] = lambda item: ""
) -> Iterator[Item]:
    """Passes `items` on and shows how many of `total` are done; what is over soon leaves no trace.

    Args:
        title: what is being done.
        items: passed on one by one.
        total: how many there are.
        note: what is worth seeing of the latest item.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    watched = is_watched()
    with Progress(*columns, disable=not watched, transient=True) as bar:
        task, last = bar.add_task(title, total=total), time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            if watched:
                bar.update(task, completed=done, description=f"{title} {note(item)}")
            elif time.monotonic() - last >= LINE_INTERVAL:
                log.info("%s", f"{title} {done:,}/{total:,} {note(item)}".rstrip())
                last = time.monotonic()
