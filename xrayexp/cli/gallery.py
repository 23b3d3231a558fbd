"""`xrayexp gallery`."""

from __future__ import annotations

import argparse
from pathlib import Path

from xrayexp.cli.common import Commands, open_console, show_log, whole_number


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "a run's wrong reports beside their images, the worst first"
    parser = commands.add_parser("gallery", help=about, description=f"Writes a page of {about}.")
    parser.add_argument("run", metavar="RUN", help="a run's folder, or RUN/evaluation/SPLIT_CHECKPOINT")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="default: test")
    parser.add_argument("--most", type=whole_number(1), default=60, metavar="N", help="images shown; default: 60")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: gallery.html beside the predictions")
    relevance = "YAML with the weights of findings; default: xrayexp/metrics/tables/relevance.yaml"
    parser.add_argument("--relevance", metavar="FILE", help=relevance)
    parser.add_argument("--data-root", metavar="FOLDER", help="the data set's folder; default: as in the run")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints where the page is."""
    from xrayexp.gallery import GalleryRequest, gallery

    show_log("xrayexp.tracking.evaluated")
    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    page = gallery(GalleryRequest(**options))
    open_console().print(f"page: {page}", highlight=False, markup=False, soft_wrap=True)
    return 0
