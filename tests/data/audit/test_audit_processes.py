"""Several processes, and items that kill them."""

from __future__ import annotations

import os
import signal

import pytest

from xrayexp.data.audit.processes import in_processes
from xrayexp.errors import DataError

FATAL = (3, 30)


def double(number: int) -> int:
    return 2 * number


def double_or_die(number: int) -> int:
    if number in FATAL:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def refuse(number: int) -> int:
    raise DataError(f"not {number}")


def test_every_item_has_its_result() -> None:
    assert dict(in_processes(double, range(50), 2)) == {number: 2 * number for number in range(50)}


def test_nothing_to_do() -> None:
    assert list(in_processes(double, [], 2)) == []


def test_an_item_that_kills_its_process_costs_no_other() -> None:
    done = list(in_processes(double_or_die, range(40), 2))
    assert len(done) == 40
    assert dict(done) == {number: None if number in FATAL else 2 * number for number in range(40)}


def test_an_error_comes_through() -> None:
    with pytest.raises(DataError, match="not 0"):
        list(in_processes(refuse, [0], 1))
