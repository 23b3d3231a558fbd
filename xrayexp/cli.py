"""The console command `xrayexp`: what is not a run of train.py, evaluate.py or sweep.py."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from xrayexp import __version__
from xrayexp.config import config_dir
from xrayexp.entry import USER_ERROR, prepare_environment
from xrayexp.messages import explain

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
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
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
    about = "a run's loss on each of its training images, for curriculum/difficulty=model_loss"
    losses = commands.add_parser("losses", help=about, description=f"Computes {about}.")
    losses.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    losses.add_argument("--checkpoint", choices=("best", "last", "none"), default="best", help="default: best")
    losses.add_argument("--batch-size", type=_count, metavar="N", help="samples together; default: as in the run")
    losses.add_argument("--accelerator", choices=("cpu", "gpu"), help="default: as in the run")
    losses.add_argument("--data-root", metavar="DIR", help="the data set on this machine; default: as in the run")
    losses.set_defaults(command=_losses)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


def _losses(arguments: argparse.Namespace) -> int:
    """Prints where the losses are, and what to do with them."""
    import logging

    from xrayexp.config import register_resolvers
    from xrayexp.pipeline import measure_losses

    logging.basicConfig(format="%(message)s")
    logging.getLogger("xrayexp").setLevel(logging.INFO)
    register_resolvers()
    file = measure_losses(
        arguments.run,
        arguments.checkpoint,
        batch_size=arguments.batch_size,
        accelerator=arguments.accelerator,
        data_root=arguments.data_root,
    )
    of_model = f"curriculum/difficulty=model_loss curriculum.difficulty.losses={shlex.quote(str(file))}"
    print(f"{file}\nnext: python train.py curriculum=easy_to_hard {of_model}")
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
