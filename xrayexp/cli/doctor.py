"""`xrayexp doctor`."""

from __future__ import annotations

import argparse

from xrayexp.cli.common import Commands
from xrayexp.config import config_dir


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "what this machine has for training, weights, data and tracking, and the fix for what it lacks"
    parser = commands.add_parser("doctor", help=about, description=f"Shows {about}.")
    parser.set_defaults(command=_run)


def _run(_: argparse.Namespace) -> int:
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
