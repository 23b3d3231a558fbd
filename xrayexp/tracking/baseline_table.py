"""A run beside its baselines: for the terminal, as text and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from xrayexp.metrics.base import Definition
from xrayexp.metrics.scores import Estimate, Scores
from xrayexp.replacing import replaced

COLUMN = 16  # characters: 0.123 to 0.456
WORDS = 40


@dataclass(frozen=True)
class BaselineTable:
    """Scores side by side.

    Attributes:
        folder: where the table is written.
        subject: what was scored.
        scores: by name, the run first; all of the same images.
    """

    folder: Path
    subject: str
    scores: Mapping[str, Scores]

    def __rich__(self) -> RenderableType:
        first = next(iter(self.scores.values()))
        table = Table(box=None, pad_edge=False, title_justify="left")
        table.add_column(f"value and {100 * first.confidence:g}% interval", overflow="fold", max_width=WORDS)
        for name in self.scores:
            table.add_column(Text(name), justify="right", no_wrap=True, min_width=COLUMN)
        for definition, estimates in self._rows():
            # Of a row of three, F1 alone; the CSV has them all.
            if definition.column not in ("", "F1") or all(math.isnan(one.value) for one in estimates):
                continue
            lower = " (lower is better)" if definition.direction == "lower" else ""
            table.add_row(Text(definition.title + lower), *map(_cell, estimates))
        images = ", ".join(f"{scores.images:,} of {name}" for name, scores in self.scores.items())
        counted = f"{first.images:,} images of {first.patients:,} patients"
        same = all(scores.images == first.images for scores in self.scores.values())
        return Group(
            Text(f"\n{self.subject}", style="bold"),
            counted if same else f"images: {images}",
            table,
            f"{self.folder}/",
        )

    def write(self) -> None:
        """Writes table.txt and table.csv over earlier ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        console = Console(width=WORDS + (COLUMN + 4) * len(self.scores), file=io.StringIO())
        with console.capture() as capture:
            console.print(self)
        with replaced(self.folder / "table.txt") as temporary:
            temporary.write_text(capture.get(), encoding="utf-8")
        with (
            replaced(self.folder / "table.csv") as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(("metric", "better", "of", "value", "low", "high", "reason"))
            for definition, estimates in self._rows():
                for name, one in zip(self.scores, estimates, strict=True):
                    numbers = map(_plain, (one.value, one.low, one.high))
                    writer.writerow((definition.name, definition.direction, name, *numbers, one.reason))

    def _rows(self) -> Iterator[tuple[Definition, list[Estimate]]]:
        """Every value that any of them has; one that others lack is NaN there."""
        definitions = {name: one for scores in self.scores.values() for name, one in scores.definitions.items()}
        nothing = Estimate(math.nan)
        for name, definition in definitions.items():
            yield definition, [scores.estimates.get(name, nothing) for scores in self.scores.values()]


def _cell(one: Estimate) -> Text:
    if math.isnan(one.value):
        return Text("-")
    interval = "" if math.isnan(one.low) else f"\n{one.low:.3f} to {one.high:.3f}"
    return Text(f"{one.value:.3f}").append(interval, style="dim")


def _plain(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.6g}"
