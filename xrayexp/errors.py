"""Errors that the user can fix: entry points show one message without a traceback, and exit with 2."""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrayexp.checks import Check


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """Something that the user can fix; the message says how."""


class ConfigError(UserError):
    """The config contradicts itself or holds values that make no sense.

    Args:
        problems: one sentence each; the message lists them all, one a line.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed("the config cannot be used as it is", self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class RequirementError(UserError):
    """Something that a run needs is not there: weights, data, a device, a login.

    Args:
        checks: the checks that failed; the message names each with its fix.
    """

    def __init__(self, checks: Sequence[Check]) -> None:
        self.checks = tuple(checks)
        lines = [_line(check) for check in self.checks]
        super().__init__(_listed("this run needs something that is missing", lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.checks,)


class DataError(UserError):
    """The data is not what its format promises."""


class Stopped(SystemExit):
    """A signal ended the run; the exit status is the one that shells report for it.

    Args:
        number: the signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        self.signal = number
        super().__init__(128 + number)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.signal,)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk, a quota or a file that may not grow is behind an error.

    torch raises its own error on top of the system's, safetensors passes on nothing but its text.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        if any(f"(os error {number})" in str(error) for number in _NO_ROOM):
            return True
        error = error.__cause__ or error.__context__
    return False


def _line(check: Check) -> str:
    return f"{check.name}: {check.detail}" + (f"\n    fix: {check.fix}" if check.fix else "")


def _listed(title: str, lines: Sequence[str]) -> str:
    """`lines` under `title`."""
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)])
