"""How W&B is used in this process: its environment variables, and whether there is a login for its server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from xrayexp.tracking.checks import wandb_login

if TYPE_CHECKING:
    from wandb import Settings

NO_CRASH_REPORTS = {"WANDB_ERROR_REPORTING": "false"}


def missing_login(session: Settings) -> str | None:
    """Why the server would not know the user; None when there is a login.

    Args:
        session: what wandb has read from its environment and files.
    """
    login = wandb_login(session.base_url, mode="online")
    return None if login.status == "ok" or session.api_key else login.detail


def set_environment(values: Mapping[str, str], undo: ExitStack) -> None:
    """Sets environment variables until `undo` is closed."""
    for name, value in values.items():
        before = os.environ.get(name)
        os.environ[name] = value
        if before is None:
            undo.callback(os.environ.pop, name, None)
        else:
            undo.callback(os.environ.__setitem__, name, before)
