"""Where a run comes from: the code, the versions and the command that made it."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xrayexp import __version__

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "lightning", "hydra-core")


def command_line() -> str:
    """The command as it could be typed again, without the folder that the program lies in."""
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Of Python, this package and the libraries that the numbers of a run depend on."""
    return {"python": platform.python_version(), "xrayexp": __version__} | {name: version(name) for name in LIBRARIES}


def git_state() -> dict[str, Any] | None:
    """Commit of the checkout that this package lies in and whether it was changed since; None outside of one."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain")
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an installed package may lie in somebody else's repository
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def config_hash(config: Mapping[str, Any]) -> str:
    """The first 12 digits of the SHA-256 of a resolved config, whatever the folder of the run and its loggers."""
    content = {key: value for key, value in config.items() if key not in ("paths", "logger", "resume", "debug")}
    folder = json.dumps(config["paths"]["output_dir"])[1:-1]  # callbacks write there
    text = json.dumps(content, sort_keys=True, default=str).replace(folder, "RUN")
    return sha256(text.encode()).hexdigest()[:12]
