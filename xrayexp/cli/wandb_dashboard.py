"""`xrayexp wandb-dashboard`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from xrayexp.cli.common import OUTPUTS, Commands

# wandb-workspaces refuses symbols in titles, and reads conditions from a text in which quotes and = have a meaning.
NAME = re.compile(r"[\w .,:/@()\[\]-]+")


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "a W&B workspace: choices against a metric, memory, learning curves and findings by adapter"
    parser = commands.add_parser(
        "wandb-dashboard",
        help=about,
        description=f"Builds {about}. Writes it to a file; with --save it is on W&B's server as well.",
    )
    parser.add_argument("--entity", type=_name, metavar="NAME", help="user or team; default: that of the login")
    parser.add_argument("--project", type=_name, default="xrayexp", metavar="NAME", help="default: xrayexp")
    parser.add_argument("--metric", type=_name, default="val/micro_f1", metavar="NAME", help="default: val/micro_f1")
    parser.add_argument(
        "--group", type=_name, metavar="SWEEP", help="only the runs of a sweep; default: all of the project"
    )
    runs = "folder of runs, whose evaluations say which findings there are; default: outputs"
    parser.add_argument("--runs", type=Path, default=OUTPUTS, metavar="FOLDER", help=runs)
    out = OUTPUTS / "wandb_dashboard.json"
    parser.add_argument("--out", type=Path, default=out, metavar="FILE", help=f"default: {out}")
    parser.add_argument("--save", action="store_true", help="on the server: needs the network and a W&B login")
    parser.set_defaults(command=_run)


def _name(text: str) -> str:
    """A type for arguments: a name on W&B's server."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"may have letters, digits, spaces and _ . , : / - @ ( ) [ ], not {text!r}")
    return text


def _run(arguments: argparse.Namespace) -> int:
    """Prints where the workspace is."""
    from xrayexp.tracking.dashboard import DashboardRequest, build, save

    request = DashboardRequest(**{name: value for name, value in vars(arguments).items() if name != "command"})
    dashboard = build(request)
    if not dashboard.findings:
        print(f"no bars of findings: no run below {request.runs} has an evaluation of its test split")
    print(f"workspace: {request.out}")
    if request.save:
        print(
            "saving it needs the network and a W&B login; without an answer this fails within half a minute", flush=True
        )
        print(f"saved: {save(dashboard)}")
    return 0
