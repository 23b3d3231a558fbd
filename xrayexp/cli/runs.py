"""`xrayexp runs`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from xrayexp.cli.common import OUTPUTS, Commands, open_console


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "all runs below a folder: state, best score, adapter, rank, learning rate, time, memory"
    parser = commands.add_parser("runs", help=about, description=f"Lists {about}.")
    parser.add_argument("folder", nargs="?", type=Path, default=OUTPUTS, help="default: outputs")
    parser.add_argument("--sort", choices=("started", "best"), default="started", help="default: started")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints the list; what is looked for, the newest or the best run, stands last."""
    from xrayexp.tracking.listing import find_runs, runs_table

    nothing_yet = arguments.folder == OUTPUTS and not OUTPUTS.exists()
    lines = [] if nothing_yet else find_runs(arguments.folder)
    if not lines:
        print(f"no run in {arguments.folder}: python train.py makes one")
        return 0
    if arguments.sort == "best":
        lines.sort(key=lambda line: -math.inf if line.best is None else line.best)
    open_console().print(runs_table(lines, arguments.folder))
    return 0
