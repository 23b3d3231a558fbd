"""CPU time and memory of a training, from one of its steps to another, whoever runs it."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

from experiments.data_throughput.clock import Clock
from experiments.results import Values
from xrayexp.errors import UserError

MIB = 2**10  # in KiB, as Linux counts
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """Measures a training in this process.

    Args:
        unmeasured: first steps whose time does not count.
        samples: of the steps whose time does.
    """

    def __init__(self, unmeasured: int, samples: int) -> None:
        self.unmeasured, self.samples = unmeasured, samples
        self._before = 0
        self._clock: Clock | None = None
        self.values: Values = {}

    def before_training(self) -> None:
        """To be called when the model is there and nothing has gone through it."""
        if not _RESET.exists():
            raise UserError("peak memory is measured through /proc, which only Linux has")
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # of glibc: gives back what was freed while loading
            libc.malloc_trim(0)
        _RESET.write_text("5")  # the peak becomes what is resident now
        self._before = _resident("VmRSS")

    def after_step(self, step: int) -> None:
        """To be called after every step, with the number of steps so far."""
        if step == self.unmeasured:
            self._clock = Clock()

    def after_training(self, loss: float) -> None:
        """To be called after the last step, with the mean loss of all steps."""
        assert self._clock is not None
        clock = self._clock.read(self.samples)
        self.values = clock | {"mib": (_resident("VmHWM") - self._before) / MIB, "loss": loss}


def _resident(name: str) -> int:
    """KiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return int(found[1])
