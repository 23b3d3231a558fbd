"""`xrayexp data check`."""

from __future__ import annotations

import argparse
from pathlib import Path

from xrayexp.cli.common import OUTPUTS, Commands, open_console, show_log, whole_number


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "looks at a data set before anything is trained on it"
    parser = commands.add_parser("data", help=about, description=f"{about.capitalize()}.")
    _add_check(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))


def _add_check(commands: Commands) -> None:
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
    check.add_argument("--workers", type=whole_number(1), help="processes that read images; default: one per core")
    check.set_defaults(command=_check)


def _check(arguments: argparse.Namespace) -> int:
    """Prints the summary; 1 when a training could not begin."""
    from xrayexp.data.audit.terminal import print_audit
    from xrayexp.data_check import check_data, write_report

    show_log("xrayexp.data.audit", "xrayexp.progress")  # the others' lines are in the summary
    found = check_data(arguments.overrides, arguments.workers)
    report = write_report(found, arguments.out)
    console = open_console()
    print_audit(found, console)
    console.print(f"page: {report}", highlight=False, markup=False)
    return int(not found.fine)
