"""What the loggers need: their package, and for Weights & Biases a login or the wish to do without."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xrayexp.checks import Check

DEFAULT_SERVER = "https://api.forge.coreweave.com"
# Servers of another name, under which older versions of wandb stored the key.
FORMER_NAMES = {"api.forge.coreweave.com": "api.wandb.ai"}

# Packages that only one logger needs, and how to get them.
OPTIONAL_PACKAGES = {
    "xrayexp.tracking.tensorboard_logger.TensorBoardLogger": ("tensorboard", "pip install tensorboard"),
    "lightning.pytorch.loggers.MLFlowLogger": ("mlflow", "pip install mlflow"),
}


def logger_packages(loggers: Mapping[str, Any]) -> list[Check]:
    """Whether the packages of the chosen loggers are there.

    Args:
        loggers: section `logger` of the config; a logger that is switched off is None.
    """
    targets = {logger["_target_"] for logger in loggers.values() if logger is not None}
    return [_installed(*OPTIONAL_PACKAGES[target]) for target in sorted(targets) if target in OPTIONAL_PACKAGES]


def _installed(package: str, command: str) -> Check:
    if find_spec(package) is None:
        return Check(f"package {package}", "missing", "not installed", f"`{command}`")
    return Check(f"package {package}", "ok", "installed")


def wandb_login(base_url: str | None = None, mode: str | None = None) -> Check:
    """Whether Weights & Biases would take runs of this user, or keeps them on this machine.

    Args:
        base_url: of the server; None means that of the environment.
        mode: "online" asks for a login whatever the environment says; None means the environment's.
    """
    name = "W&B login"
    mode = mode or os.environ.get("WANDB_MODE", "online")
    if mode != "online":
        return Check(name, "ok", f"not needed: WANDB_MODE={mode}")
    for variable in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if os.environ.get(variable):
            return Check(name, "ok", f"in {variable}")
    server = urlsplit(base_url or os.environ.get("WANDB_BASE_URL", DEFAULT_SERVER)).netloc
    if _in_netrc(server) or _in_netrc(FORMER_NAMES.get(server, server)):
        return Check(name, "ok", f"stored by `wandb login` for {server}")
    return Check(name, "missing", f"no key for {server}", "`wandb login`, or WANDB_MODE=offline")


def _in_netrc(server: str) -> bool:
    """Whether the file that `wandb login` writes holds a key for this server."""
    home = Path.home()
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else [home / ".netrc", home / "_netrc"]
    for file in files:
        try:
            if netrc(file).authenticators(server):
                return True
        except (OSError, NetrcParseError):
            continue  # wandb cannot read it either
    return False
