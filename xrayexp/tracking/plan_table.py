"""A memory plan for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from xrayexp.planning import Plan
    from xrayexp.settings import Settings

STYLES = {"fits": "bold green", "risky": "bold yellow", "does not fit": "bold red"}


def plan_table(settings: Settings, plan: Plan) -> RenderableType:
    """What lives at the peaks of training and generation, the verdict, and what would fit.

    Args:
        settings: of the run.
        plan: its forecast.
    """
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
    return Group(*lines)
