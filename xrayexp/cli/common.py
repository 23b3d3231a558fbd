"""What the commands share."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

OUTPUTS = Path("outputs")  # where train.py puts its runs
WIDE = 160  # characters of a table that goes to a file or a pipe


def whole_number(least: int) -> Callable[[str], int]:
    """A type for arguments: a whole number of at least `least`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text}")
        return int(text)

    return read


def positive_number(text: str) -> float:
    """A type for arguments: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def open_console() -> Console:
    """Where tables go."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    return console


def show_log(*names: str) -> None:
    """Lets these loggers tell on stderr what they do."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for name in names:
        logging.getLogger(name).setLevel(logging.INFO)


def add_place(parser: argparse.ArgumentParser) -> None:
    """The options of commands that load a run on another machine than the one that trained it."""
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), help="default: as in the run")
    parser.add_argument("--data-root", metavar="FOLDER", help="the data set's folder; default: as in the run")
