"""Predictions gathered over batches and processes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xrayexp.metrics.predictions import prediction_row, scored_report
from xrayexp.metrics.samples import ScoredReport


class CollectedReports(Metric):
    """Holds the reports of an evaluation until all are there; `reports` gives those of all processes, each image once.

    Scores are no sums over batches (a bootstrap needs every report), so it is the reports that are gathered: as bytes,
    since tensors are what processes exchange. A distributed sampler pads its last batch with images of the first:
    these are dropped.
    """

    full_state_update = False
    lines: list[torch.Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("lines", default=[], dist_reduce_fx="cat")

    def update(self, reports: Iterable[ScoredReport]) -> None:
        """Adds the reports of a batch, maybe none."""
        lines = "".join(json.dumps(prediction_row(report)) + "\n" for report in reports)
        codes = torch.tensor(list(lines.encode()), dtype=torch.uint8, device=self.device)
        self.lines.append(codes)

    def compute(self) -> torch.Tensor:
        """The lines of all processes, one after the other, in ASCII: uint8 [characters]."""
        return dim_zero_cat(self.lines)

    def reports(self) -> list[ScoredReport]:
        """The reports of all processes, in the order of processes and batches."""
        lines = bytes(self.compute().cpu().numpy()).decode().splitlines()
        reports = (scored_report(json.loads(line)) for line in lines)
        return list({report.image_id: report for report in reports}.values())
