"""`xrayexp compare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from xrayexp.cli.common import OUTPUTS, Commands, open_console, show_log, whole_number


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "runs or a sweep: choices, costs and curves; on the same images differences with tests, reports that turned"
    parser = commands.add_parser(
        "compare",
        help=about,
        description=f"Compares {about}. Prints a table, writes CSV files and a page that opens without a network. "
        "Of runs with predictions the first is the reference; every other one stands beside it.",
    )
    what = "folder of a run, of a sweep, with runs below, RUN/evaluation/SPLIT_CHECKPOINT, or a quoted pattern of these"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=what)
    parser.add_argument("--out", type=Path, default=OUTPUTS / "comparison", help="default: outputs/comparison")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="default: test")
    parser.add_argument("--reference", metavar="RUN", help="the run that the others stand beside; default: the first")
    parser.add_argument("--metrics", default="structured", help="option of the config group; default: structured")
    value = "a value such as micro_f1, again for more: Holm's correction then covers no others; default: all"
    parser.add_argument("--metric", action="append", default=[], metavar="NAME", help=value)
    examples = "reports shown of each kind and run; default: 8"
    parser.add_argument("--examples", type=whole_number(0), default=8, metavar="N", help=examples)
    resamples = "of patients, behind every interval; default: 1000"
    parser.add_argument("--resamples", type=whole_number(100), default=1000, metavar="N", help=resamples)
    draws = "swaps behind every test; default: 10000"
    parser.add_argument("--draws", type=whole_number(100), default=10_000, metavar="N", help=draws)
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of resamples and swaps; default: 0")
    parser.add_argument("--data-root", metavar="FOLDER", help="the data set's folder; default: as in the reference")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints the table."""
    from xrayexp.compare import PAGE, CompareRequest, compare
    from xrayexp.tracking.comparison_table import comparison_table
    from xrayexp.tracking.sheet_table import sheet_table

    show_log("xrayexp.tracking.evaluated")
    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    found = compare(CompareRequest(**options))
    console = open_console()
    if found.sheet is not None:
        console.print(sheet_table(found.sheet))
    if found.view is not None:
        console.print(comparison_table(found.view))
    console.print(f"page: {arguments.out / PAGE}", highlight=False, markup=False, soft_wrap=True)
    return 0
