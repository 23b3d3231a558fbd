"""Progress of loops: a bar where a person watches, lines elsewhere, nothing for what is over at once."""

from __future__ import annotations

import io
import logging
import os
import sys

import pytest

from xrayexp import progress
from xrayexp.progress import watch


def test_a_short_loop_passes_everything_on_and_says_nothing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    assert list(watch("train", [0.5, 0.25], 2)) == [0.5, 0.25]
    assert (caplog.messages, capsys.readouterr().out) == ([], "")


def test_a_long_loop_logs_lines_where_nobody_watches(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    assert list(watch("train", iter([0.5, 0.25]), 2000, note=lambda loss: f"loss {loss}")) == [0.5, 0.25]
    assert caplog.messages == ["train 1/2,000 loss 0.5", "train 2/2,000 loss 0.25"]


LONG_LOOP = """
import time
from xrayexp.progress import watch

until = time.monotonic() + 1
for _ in watch("train", iter(lambda: time.monotonic() < until, False), 10**7, note=lambda _: "loss 0.5"):
    pass
print("over")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_shows_a_bar() -> None:
    import pty

    shown = io.BytesIO()

    def read(terminal: int) -> bytes:
        shown.write(piece := os.read(terminal, 1024))
        return piece

    assert pty.spawn([sys.executable, "-c", LONG_LOOP], read) == 0
    assert b"train loss 0.5" in shown.getvalue()
    assert b"over" in shown.getvalue()
