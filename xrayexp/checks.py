"""What a run needs from the machine: each room checks its own part, entry points and `xrayexp doctor` ask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from xrayexp.errors import RequirementError


@dataclass(frozen=True)
class Check:
    """One requirement and whether it is met.

    Attributes:
        name: what was looked for, e.g. "PadChest folder".
        status: "missing" stops a run that needs it, "warning" does not.
        detail: what was found.
        fix: the command or page that helps; empty when there is nothing to fix. Never holds a secret.
    """

    name: str
    status: Literal["ok", "warning", "missing"]
    detail: str
    fix: str = ""


def require(checks: Iterable[Check]) -> None:
    """Passes when nothing is missing.

    Raises:
        RequirementError: names everything that is missing, with its fix.
    """
    missing = [check for check in checks if check.status == "missing"]
    if missing:
        raise RequirementError(missing)
