"""`xrayexp data check` and `xrayexp data fetch-metrics`."""

from __future__ import annotations

import argparse
from pathlib import Path

from xrayexp.cli.common import OUTPUTS, Commands, open_console, show_log, whole_number


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "looks at a data set before anything is trained on it; fetches the weights of metrics"
    parser = commands.add_parser("data", help=about, description=f"{about.capitalize()}.")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_check(subcommands)
    _add_fetch_metrics(subcommands)


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


def _add_fetch_metrics(commands: Commands) -> None:
    from xrayexp.metrics.clinical.files import RADGRAPH_MODELS

    about = "the weights of the clinical metrics: CheXbert and RadGraph"
    fetch = commands.add_parser(
        "fetch-metrics",
        help=f"downloads {about}",
        description=f"Downloads {about}. An interrupted download goes on where it was.",
    )
    default = RADGRAPH_MODELS[0]
    which = f"RadGraph's model, as in metrics.scores.radgraph.model; several may be named; default: {default}"
    fetch.add_argument("--radgraph", nargs="+", choices=RADGRAPH_MODELS, default=[default], help=which)
    fetch.set_defaults(command=_fetch_metrics)


def _fetch_metrics(arguments: argparse.Namespace) -> int:
    """Prints the licences, then what is there; 1 when something is still missing."""
    from xrayexp.metrics.clinical.fetch import LICENCES, fetch

    show_log("xrayexp.metrics.clinical.fetch")
    console = open_console()
    console.print(LICENCES, highlight=False, markup=False)
    found = fetch(arguments.radgraph)
    for check in found:
        console.print(f"{check.name}: {check.detail}", highlight=False, markup=False)
    return int(any(check.status != "ok" for check in found))
