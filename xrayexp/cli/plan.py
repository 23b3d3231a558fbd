"""`xrayexp plan`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from xrayexp.cli.common import Commands, open_console, positive_number

if TYPE_CHECKING:
    from rich.console import RenderableType

    from xrayexp.planning import Plan
    from xrayexp.settings import Settings

STYLES = {"fits": "bold green", "risky": "bold yellow", "does not fit": "bold red"}


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
    parser.add_argument("--gib", type=positive_number, help="memory of the card; default: memory.budget_gib, else 12")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints the forecast."""
    from xrayexp.config import training_config
    from xrayexp.planning import Planner
    from xrayexp.quiet import quiet_libraries
    from xrayexp.settings import Settings

    quiet_libraries()
    settings = Settings.from_config(training_config([*arguments.overrides, "paths.output_dir=outputs/plan"]))
    settings.require_training()
    console = open_console()
    with console.status("tracing a training step ..."):
        plan = Planner(settings).plan(arguments.gib or settings.memory.budget_gib or 12.0)
    console.print(_table(settings, plan))
    return int(plan.verdict != "fits")


def _table(settings: Settings, plan: Plan) -> RenderableType:
    """What lives at the peaks of training and generation, the verdict, and what would fit.

    Args:
        settings: of the run.
        plan: its forecast.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    forecast, trainer = plan.forecast, settings.trainer
    peaks = {
        f"training, {trainer.micro_batch_size} x {settings.model.max_length} tokens": forecast.training,
        f"generation, {trainer.eval_batch_size} together": forecast.generation,
    }
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("GiB at the peak of")
    for name in peaks:
        table.add_column(name, justify="right")
    shown = dict.fromkeys(name for peak in peaks.values() for name, size in peak.parts.items() if size >= 0.005)
    for name in shown:
        table.add_row(name, *(f"{peak.parts.get(name, 0.0):.2f}" for peak in peaks.values()))
    table.add_section()
    table.add_row("allocated", *(f"{peak.allocated:.2f}" for peak in peaks.values()), style="bold")
    table.add_row("reserved", *(f"{peak.reserved:.2f}" for peak in peaks.values()))
    table.add_row("with context", *(f"{peak.reserved + forecast.context_gib:.2f}" for peak in peaks.values()))
    title = (
        f"{settings.model.name}, adapter={settings.adapter.name} r={settings.adapter.r} on {settings.adapter.target}"
    )
    lines: list[RenderableType] = [Text(f"\n{title}", style="bold"), table]
    lines.append(Text(plan.sentence, style=STYLES[plan.verdict]))
    if plan.verdict != "fits":
        lines.append(plan.advice)
    if trainer.compile:
        lines.append("trainer.compile=true is not modelled: this is the same training without it.")
    return Group(*lines)
