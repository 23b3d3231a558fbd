"""The console command `xrayexp`: what is not a run of train.py, evaluate.py or sweep.py."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from xrayexp import __version__
from xrayexp.config import config_dir
from xrayexp.entry import USER_ERROR, prepare_environment
from xrayexp.errors import UserError

OUTPUTS = Path("outputs")  # where train.py puts its runs
WIDE = 160  # characters of a table that goes to a file or a pipe


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: the arguments; None means those of the process.

    Returns:
        The exit status: 0, 1 when the command's answer is no, 2 for what the user can fix.
    """
    prepare_environment()
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xrayexp", description="Fine-tuning experiments on chest X-rays.")
    parser.add_argument("--version", action="version", version=f"xrayexp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    about = "what this machine has for training, weights, data and tracking, and the fix for what it lacks"
    doctor = commands.add_parser("doctor", help=about, description=f"Shows {about}.")
    doctor.set_defaults(command=_doctor)
    about = "all runs below a folder: state, best score, adapter, rank, learning rate, time, memory"
    runs = commands.add_parser("runs", help=about, description=f"Lists {about}.")
    runs.add_argument("folder", nargs="?", type=Path, default=OUTPUTS, help="default: outputs")
    runs.add_argument("--sort", choices=("started", "best"), default="started", help="default: started")
    runs.set_defaults(command=_runs)
    _add_export(commands)
    return parser


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "a run's adapter merged into its base, as a model folder that transformers loads by itself"
    parser = commands.add_parser("export", help=about, description=f"Writes {about}, with a model card.")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--to", type=Path, help="folder to be made; default: export/CHECKPOINT in the run's folder")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="default: bfloat16")
    parser.add_argument("--base", help="folder or hub id of the base in full precision, where it is not the run's")
    dequantize = "merge into the weights as they were quantised for training, written out in full"
    parser.add_argument("--dequantize", action="store_true", help=dequantize)
    compare = "validation images on which merged and unmerged model are compared; default: 4, 0 for no comparison"
    parser.add_argument("--compare", type=_count, default=4, metavar="N", help=compare)
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), help="default: as in the run")
    parser.add_argument("--data-root", metavar="FOLDER", help="the data set's folder; default: as in the run")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload to a new private repository on the hub")
    parser.set_defaults(command=_export)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {number}")
    return number


def _export(arguments: argparse.Namespace) -> int:
    """Prints the summary."""
    import logging

    from rich.console import Console

    from xrayexp.export import ExportRequest, export

    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("xrayexp.export").setLevel(logging.INFO)
    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(export(ExportRequest(**options)))
    return 0


def _runs(arguments: argparse.Namespace) -> int:
    """Prints the list; what is looked for, the newest or the best run, stands last."""
    from rich.console import Console

    from xrayexp.tracking.listing import find_runs, runs_table

    nothing_yet = arguments.folder == OUTPUTS and not OUTPUTS.exists()
    lines = [] if nothing_yet else find_runs(arguments.folder)
    if not lines:
        print(f"no run in {arguments.folder}: python train.py makes one")
        return 0
    if arguments.sort == "best":
        lines.sort(key=lambda line: -math.inf if line.best is None else line.best)
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(runs_table(lines, arguments.folder))
    return 0


def _doctor(_: argparse.Namespace) -> int:
    """Prints the table; 1 when something is missing that every run needs."""
    from rich.console import Console

    from xrayexp.config import register_resolvers
    from xrayexp.doctor import examine, table
    from xrayexp.quiet import quiet_libraries

    register_resolvers()
    quiet_libraries()
    console = Console()
    with console.status("checking ..."):
        findings = list(examine(config_dir()))
    console.print(table(findings))
    return int(any(finding.check.status == "missing" and not finding.needed_by for finding in findings))
