"""What tracking with Weights & Biases needs: a login, or the wish to do without."""

from __future__ import annotations

import os
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

from xrayexp.checks import Check

DEFAULT_SERVER = "https://api.wandb.ai"


def wandb_login() -> Check:
    """Whether Weights & Biases would take runs of this user, or keeps them on this machine."""
    name = "W&B login"
    mode = os.environ.get("WANDB_MODE", "online")
    if mode != "online":
        return Check(name, "ok", f"not needed: WANDB_MODE={mode}")
    if os.environ.get("WANDB_API_KEY"):
        return Check(name, "ok", "in WANDB_API_KEY")
    server = urlsplit(os.environ.get("WANDB_BASE_URL", DEFAULT_SERVER)).netloc
    if _in_netrc(server):
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
