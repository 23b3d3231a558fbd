"""What the model says about a few validation images, kept at every validation for people to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L

from xrayexp.data.report import write_report
from xrayexp.tracking.examples import ExampleLogger, ExampleRow
from xrayexp.training.sample_page import render_page

if TYPE_CHECKING:
    from xrayexp.metrics.samples import ScoredReport
    from xrayexp.training.generation import Generated


class SamplePredictions(L.Callback):
    """Writes a page per validation, and hands the same examples to the loggers that can show them.

    Args:
        folder: of the pages, step-00000250.html and so on.
        count: number of images, the first of the validation set.
    """

    def __init__(self, folder: str, count: int) -> None:
        self.folder, self.count = Path(folder), count
        self._written: list[tuple[ScoredReport, Generated]] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._written = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        self._written += outputs["written"][: self.count - len(self._written)]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        source: Any = trainer.datamodule.source  # type: ignore[attr-defined]
        rows = [_row(scored, answer, source.image(scored.image_id)) for scored, answer in self._written]
        scores = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("val/")}
        self.folder.mkdir(parents=True, exist_ok=True)
        page = self.folder / f"step-{trainer.global_step:08d}.html"
        page.write_text(render_page(f"step {trainer.global_step:,}", scores, rows), encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, ExampleLogger):
                logger.log_examples(trainer.global_step, rows)


def _row(scored: ScoredReport, answer: Generated, image: Any) -> ExampleRow:
    true = {finding.name for finding in scored.truth.findings}
    named = {finding.name for finding in scored.predicted.findings} if scored.predicted is not None else set()
    return ExampleRow(
        image_id=scored.image_id,
        image=image,
        truth=write_report(scored.truth.findings),
        prediction=answer.text,
        missed=tuple(sorted(true - named)),
        invented=tuple(sorted(named - true)),
    )
