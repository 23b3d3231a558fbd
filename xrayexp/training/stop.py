"""SIGTERM and Ctrl-C end training after the current step, once it is saved, and everything else at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

from xrayexp.errors import Stopped

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Handlers: TypeAlias = dict[signal.Signals, Any]


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Lets both signals raise `Stopped` wherever the body is, but for training, which saves first.

    Python would end without a word after SIGTERM. Lightning would finish a test and report success after SIGTERM, and
    an error after Ctrl-C.
    """
    replaced = _replace(_stop)
    try:
        yield
    finally:
        _restore(replaced)


def _stop(number: int, _: FrameType | None) -> None:
    log.warning("%s: stopping", signal.Signals(number).name)
    raise Stopped(signal.Signals(number))


def _replace(handler: Callable[[int, FrameType | None], None]) -> Handlers:
    """Takes over the signals, which Python hands to its main thread only; returns the handlers of before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in SIGNALS}


def _restore(handlers: Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


class StopRequest:
    """Remembers that a signal asked for the end, until whoever can save does so and obeys.

    A second signal ends training at once; the latest checkpoint is then the one that was saved before.
    """

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._replaced: Handlers = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signal is not None

    def listen(self) -> None:
        """Takes over the signals."""
        self._replaced = self._replaced or _replace(self._remember)

    def cease(self) -> None:
        """Gives the signals back; calling it again does no harm."""
        _restore(self._replaced)
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
