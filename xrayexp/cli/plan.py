"""`xrayexp plan`."""

from __future__ import annotations

import argparse

from xrayexp.cli.common import Commands, open_console
from xrayexp.config import config_dir


def add(commands: Commands) -> None:
    """Adds the command."""
    about = "the GPU memory of a training, predicted without a GPU and without weights"
    parser = commands.add_parser(
        "plan",
        help=about,
        description=f"Shows {about}: what takes it, whether it fits, and what would fit.",
        epilog="Status: 0 fits, 1 risky or does not fit, 2 wrong use.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py, such as model=medgemma15")
    parser.add_argument("--gib", type=_gib, help="memory of the card; default: memory.budget_gib, else 12")
    parser.set_defaults(command=_run)


def _gib(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def _run(arguments: argparse.Namespace) -> int:
    """Prints the forecast."""
    from hydra import compose, initialize_config_dir

    from xrayexp.config import register_resolvers
    from xrayexp.planning import Planner
    from xrayexp.tracking.plan_table import plan_table
    from xrayexp.quiet import quiet_libraries
    from xrayexp.settings import Settings

    register_resolvers()
    quiet_libraries()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        settings = Settings.from_config(compose("train", [*arguments.overrides, "paths.output_dir=outputs/plan"]))
    settings.require_training()
    console = open_console()
    with console.status("tracing a training step ..."):
        plan = Planner(settings).plan(arguments.gib or settings.memory.budget_gib or 12.0)
    console.print(plan_table(settings, plan))
    return int(plan.verdict != "fits")
