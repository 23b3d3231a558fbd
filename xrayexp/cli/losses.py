"""`xrayexp losses`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from xrayexp.cli.common import Commands, add_place, show_log, whole_number


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "a run's loss on each of its training images, for curriculum/difficulty=model_loss"
    parser = commands.add_parser("losses", help=about, description=f"Computes {about}.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument("--checkpoint", choices=("best", "last", "none"), default="best", help="default: best")
    together = "samples together; default: as in the run"
    parser.add_argument("--batch-size", type=whole_number(1), metavar="N", help=together)
    add_place(parser)
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints where the losses are, and what to do with them."""
    from xrayexp.config import register_resolvers
    from xrayexp.entry import choose_allocator

    choose_allocator(None, arguments.run)
    from xrayexp.pipeline import measure_losses

    show_log("xrayexp")
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
