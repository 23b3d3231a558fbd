"""SIGTERM and Ctrl-C end training after the current step, once it is saved."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

from xrayexp.errors import Stopped

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Remembers that a signal asked for the end, until whoever can save does so and obeys.

    A second signal ends training at once; the latest checkpoint is then the one that was saved before.
    """

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._replaced: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signal is not None

    def listen(self) -> None:
        """Takes over the signals; Python hands them to its main thread only."""
        if threading.current_thread() is threading.main_thread() and not self._replaced:
            self._replaced = {number: signal.signal(number, self._remember) for number in SIGNALS}

    def cease(self) -> None:
        """Gives the signals back; calling it again does no harm."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        self._replaced = {}

    def obey(self) -> None:
        """To be called when all is saved.

        Raises:
            Stopped: when a signal has come.
        """
        if self._signal is not None:
            raise Stopped(self._signal)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None:
            raise Stopped(self._signal)
        self._signal = signal.Signals(number)
        log.warning("%s: saving after this step; a second signal stops at once, unsaved", self._signal.name)
