"""What a stretch of work takes, of this process and of those that it has started."""

from __future__ import annotations

import time

import psutil

from experiments.results import Values


class Clock:
    """Starts when it is made."""

    def __init__(self) -> None:
        self._cpu, self._wall = _cpu_seconds(), time.perf_counter()

    def read(self, images: int) -> Values:
        """CPU seconds and seconds since the start, for so many images."""
        return {"images": images, "cpu": _cpu_seconds() - self._cpu, "wall": time.perf_counter() - self._wall}


def _cpu_seconds() -> float:
    """Of this process's own threads, and of its children that live."""
    children = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + float(sum(times.user + times.system for times in children))
