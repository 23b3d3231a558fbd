"""The console command `xrayexp`: what is not a run of train.py, evaluate.py or sweep.py."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from xrayexp import __version__
from xrayexp.config import config_dir
from xrayexp.entry import INTERRUPTED, USER_ERROR, prepare_environment
from xrayexp.messages import explain

OUTPUTS = Path("outputs")  # where train.py puts its runs
WIDE = 160  # characters of a table that goes to a file or a pipe


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: the arguments; None means those of the process.

    Returns:
        The exit status: 0, 1 when the command's answer is no, 2 for what the user can fix, 130 after Ctrl+C.

    Raises:
        Exception: whatever the user cannot fix, that is, a bug.
    """
    prepare_environment()
    arguments = _parse(argv)
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return USER_ERROR


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the arguments; overrides may stand on both sides of options, which argparse takes for a mistake."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not (hasattr(arguments, "overrides") and all(not word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


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
    about = "looks at a data set before anything is trained on it"
    data = commands.add_parser("data", help=about, description=f"{about.capitalize()}.")
    _add_check(data.add_subparsers(title="commands", metavar="COMMAND", required=True))
    return parser


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "rows, labels, splits and every image of a data set, with a page of figures"
    check = commands.add_parser(
        "check",
        help=about,
        description=f"Reports on {about}. Missing, unreadable, constant, suspect and duplicate images are named; "
        "training leaves out the first three. An interrupted check goes on where it was, and files that have not "
        "changed are not read again.",
        epilog="Status: 0 training can begin, 1 too much is broken (data.max_broken_fraction), 2 wrong use.",
    )
    check.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py; data=padchest if not given")
    check.add_argument("--out", type=Path, default=OUTPUTS / "data_check", help="default: outputs/data_check")
    check.add_argument("--workers", type=_count, help="processes that read images; default: one per core")
    check.set_defaults(command=_data_check)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


def _data_check(arguments: argparse.Namespace) -> int:
    """Prints the summary; 1 when a training could not begin."""
    from rich.console import Console

    from xrayexp.data.audit.terminal import print_audit
    from xrayexp.data_check import check_data, write_report

    logging.basicConfig(format="%(message)s")
    for name in ("xrayexp.data.audit", "xrayexp.progress"):  # the others' lines are in the summary
        logging.getLogger(name).setLevel(logging.INFO)
    found = check_data(arguments.overrides, arguments.workers)
    report = write_report(found, arguments.out)
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    print_audit(found, console)
    console.print(f"page: {report}", highlight=False, markup=False)
    return int(not found.fine)


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


if __name__ == "__main__":
    sys.exit(main())
