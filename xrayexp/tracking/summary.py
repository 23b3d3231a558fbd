"""The few numbers that a run ends with, as an object for programs and as a table for people."""

from __future__ import annotations

import io
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from xrayexp.metrics.scores import Scores
from xrayexp.metrics.table import render
from xrayexp.tracking.baseline_table import BaselineTable
from xrayexp.tracking.finding_scores import finding_f1

FINDINGS_SHOWN = 10  # in the terminal; table.txt has them all


@dataclass(frozen=True)
class EvaluationSummary:
    """Where the predictions of one split lie and what they score."""

    folder: Path
    split: str
    checkpoint: str
    metrics: Scores
    broken_images: int = 0
    subject: str | None = None  # what was evaluated, where it is not a run on its own data

    def __rich__(self) -> RenderableType:
        return self.renderable(FINDINGS_SHOWN)

    def renderable(self, findings: int | None = None) -> RenderableType:
        """The summary with so many findings, the most frequent ones; None for all."""
        title = f"{self.checkpoint} adapter" if self.checkpoint != "none" else "model without adapter"
        left_out = [f"{self.broken_images} images could not be read and are left out"] if self.broken_images else []
        return Group(
            Text(f"\n{self.subject or f'{title} on the {self.split} split'}", style="bold"),
            render(self.metrics, findings),
            *left_out,
            f"{self.folder}/",
        )


@dataclass(frozen=True)
class TrainingSummary:
    """What was trained, for how long, and how good it got.

    Attributes:
        folder: the run folder.
        trainable_parameters: of the adapter.
        total_parameters: of adapter and base.
        steps: optimiser steps taken.
        monitor: the validation metric that chose the best adapter.
        best_score: its best value; None when validation never ran.
        best_step: the step of that value.
        fit_seconds: wall time of training with its validations.
        fit_cpu_seconds: CPU time of this process during the same.
        peak_memory_gib: largest GPU memory allocated, or on a CPU largest resident memory of the process.
        predicted_memory_gib: what `peak_memory_gib` was predicted to be; None where nothing was.
        checkpoint_seconds: wall time of the slowest checkpoint; None when none was written.
        halved: (step, micro-batch size from then on) for every time that memory ran out.
        synthetic_share: of the training images.
        broken_images: that could not be read, in all splits.
        not_good: why the accuracy gate does not call the run good; None when it does, or there is none.
        evaluation: on the test split, when the config asks for it.
    """

    folder: Path
    model: str
    data: str
    adapter: str
    trainable_parameters: int
    total_parameters: int
    steps: int
    monitor: str
    best_score: float | None
    best_step: int | None
    fit_seconds: float
    fit_cpu_seconds: float
    peak_memory_gib: float
    predicted_memory_gib: float | None = None
    checkpoint_seconds: float | None = None
    halved: tuple[tuple[int, int], ...] = ()
    synthetic_share: float = 0.0
    broken_images: int = 0
    not_good: str | None = None
    evaluation: EvaluationSummary | None = None

    def to_json(self) -> dict[str, Any]:
        """For summary.json; the evaluation has a file of its own."""
        return {name: value for name, value in vars(self).items() if name not in ("folder", "evaluation")}

    def _predicted(self) -> str:
        return "" if self.predicted_memory_gib is None else f" ({self.predicted_memory_gib:.2f} predicted)"

    def _out_of_memory(self) -> dict[str, str]:
        events = [f"micro-batches of {size} from step {step} on" for step, size in self.halved]
        return {"out of memory": ", ".join(events)} if events else {}

    def to_log(self) -> dict[str, float | str]:
        """For loggers: what exists of summary.json, of the evaluation's headline metrics and of findings' F1."""
        found = self.to_json()
        if self.evaluation is not None:
            scores, split = self.evaluation.metrics, self.evaluation.split
            found |= {f"{split}/{name}": estimate.value for name, estimate in scores.estimates.items()}
            found |= finding_f1(scores, split)
        return {n: v for n, v in found.items() if isinstance(v, float | int | str) and v == v}  # not NaN

    def __rich__(self) -> RenderableType:
        trained = f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters"
        share = self.trainable_parameters / self.total_parameters
        run = shlex.quote(f"run={self.folder}")
        best = "no validation ran" if self.best_score is None else f"{self.best_score:.3f} at step {self.best_step}"
        rows = {
            "model": f"{self.model} on {self.data}",
            "adapter": f"{self.adapter}, {trained} ({share:.1%})",
            "training": f"{self.steps} steps, {self.fit_seconds:.0f} s ({self.fit_cpu_seconds:.0f} CPU s)",
            f"best {self.monitor}": best,
            "peak memory": f"{self.peak_memory_gib:.2f} GiB" + self._predicted(),
            **({"synthetic": f"{self.synthetic_share:.1%} of the training images"} if self.synthetic_share else {}),
            **({"broken images": f"{self.broken_images} left out, see quarantine.csv"} if self.broken_images else {}),
            **self._out_of_memory(),
            **({"not good": self.not_good} if self.not_good else {}),
            "run folder": f"{self.folder}",
        }
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in rows.items():
            table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
        # Not wrapped, to be copied.
        further = Text.assemble(("\nnext  ", "bold"), f"python evaluate.py {run}", no_wrap=True, overflow="ignore")
        return Group(*([self.evaluation] if self.evaluation else []), "", table, further)


def print_summary(summary: EvaluationSummary | TrainingSummary | BaselineTable) -> None:
    """Prints a summary to the terminal, or as plain text where there is none."""
    Console().print(summary, crop=False)


def plain_text(summary: EvaluationSummary | TrainingSummary) -> str:
    """The summary as it would look in a file, with every finding."""
    console = Console(width=110, file=io.StringIO())
    with console.capture() as capture:
        console.print(summary.renderable() if isinstance(summary, EvaluationSummary) else summary)
    return capture.get()
