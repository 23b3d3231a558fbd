"""`xrayexp export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from xrayexp.cli.common import Commands, add_place, open_console, show_log, whole_number


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "a run's adapter merged into its base, as a model folder that transformers loads by itself"
    parser = commands.add_parser("export", help=about, description=f"Writes {about}, with a model card.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--to", type=Path, help="folder to be made; default: export/CHECKPOINT in the run's folder")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="default: bfloat16")
    parser.add_argument("--base", help="folder or hub id of the base in full precision, where it is not the run's")
    dequantize = "merge into the weights as they were quantised for training, written out in full"
    parser.add_argument("--dequantize", action="store_true", help=dequantize)
    compare = "validation images on which merged and unmerged model are compared; default: 4, 0 for no comparison"
    parser.add_argument("--compare", type=whole_number(0), default=4, metavar="N", help=compare)
    add_place(parser)
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload to a new private repository on the hub")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints the summary."""
    from xrayexp.export import ExportRequest, export

    show_log("xrayexp.export")
    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    open_console().print(export(ExportRequest(**options)))
    return 0
