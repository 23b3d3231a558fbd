"""An audit in a terminal: what is left, what is broken, and whether training can begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xrayexp.data.audit.faults import KINDS, MISSING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from xrayexp.data.audit.audit import Audit
    from xrayexp.data.audit.faults import ImageFindings
    from xrayexp.data.audit.labels import LabelStatistics

MOST_FINDINGS = 8
MOST_NAMED = 5  # problems of a kind


def print_audit(audit: Audit, console: Console) -> None:
    """Prints the summary."""
    if audit.funnel:
        console.print(_funnel(audit.funnel))
    if audit.labels is not None:
        _print_labels(audit.labels, console)
    if audit.splits:
        console.print(_splits(audit))
    if audit.images is not None:
        _print_problems(audit.images, console)
    for note in audit.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)
    for obstacle in audit.obstacles():
        console.print(obstacle, style="red", highlight=False, markup=False)
    if audit.fine:
        console.print("training can begin", style="bold green")
    else:
        console.print("training would stop before it begins", style="bold red")


def _table(*titles: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    return table


def _funnel(funnel: list[tuple[str, int]]) -> Table:
    from rich.text import Text

    table, before = _table("rows", "left", "left out"), funnel[0][1]
    for step, left in funnel:
        table.add_row(Text(step), f"{left:,}", f"{before - left:,}" if before > left else "")
        before = left
    return table


def _print_labels(labels: LabelStatistics, console: Console) -> None:
    counts = f"{labels.images:,} images of {labels.patients:,} patients in {labels.studies:,} studies"
    frequent = ", ".join(f"{name} {count:,}" for name, count in labels.findings.head(MOST_FINDINGS).items())
    methods = ", ".join(f"{name} {count:,}" for name, count in labels.methods.items())
    console.print(f"{counts}; {len(labels.findings)} findings: {frequent} ...", highlight=False, markup=False)
    if methods:
        console.print(f"labelled by {methods}", highlight=False, markup=False)


def _splits(audit: Audit) -> Table:
    images = audit.images
    kinds = KINDS if images is not None else ()
    table = _table("split", "images", *kinds)
    for name, size in audit.splits.items():
        counts = [images.count(kind, name) for kind in kinds] if images is not None else []
        table.add_row(name, f"{size:,}", *(f"{count:,}" if count else "-" for count in counts))
    return table


def _print_problems(images: ImageFindings, console: Console) -> None:
    for kind in KINDS:
        if kind == MISSING and not images.images.found:
            continue  # a note says that none is there
        found = images.problems[images.problems["kind"] == kind]
        for row in found.head(MOST_NAMED).itertuples():
            console.print(f"{kind}: {row.image_id} ({row.reason})", highlight=False, markup=False)
        if len(found) > MOST_NAMED:
            console.print(f"{kind}: {len(found) - MOST_NAMED:,} more", highlight=False, markup=False)
