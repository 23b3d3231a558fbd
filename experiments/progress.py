"""Shows how far a loop is: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

INTERVAL = 10.0  # seconds between plain lines


def watch(
    title: str, items: Iterable[Item], total: int, note: Callable[[Item], str] = lambda item: ""
) -> Iterator[Item]:
    """Passes `items` on and shows their number; `note` says what is worth seeing of the latest one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    lines = not sys.stdout.isatty()
    with Progress(*columns, disable=lines) as bar:
        task, last = bar.add_task(title, total=total), time.monotonic()
        for done, item in enumerate(items, start=1):
            bar.update(task, completed=done, description=f"{title} {note(item)}")
            if lines and (done == total or time.monotonic() - last > INTERVAL):
                print(f"{title} {done}/{total} {note(item)}".rstrip(), flush=True)
                last = time.monotonic()
            yield item
