"""Predictions gathered over batches and processes."""

from __future__ import annotations

import json
from collections.abc import Iterable

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xrayexp.metrics.predictions import prediction_row, scored_report
from xrayexp.metrics.samples import ScoredReport


class CollectedReports(Metric):
    """Holds the reports of an evaluation; `compute` gives those of all processes, each image once.

    Scores are no sums over batches (a bootstrap needs every report), so it is the reports that are gathered: as bytes,
    since tensors are what processes exchange. A distributed sampler pads its last batch with images of the first:
    these are dropped.
    """

    full_state_update = False
    rows: list[torch.Tensor]

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, reports: Iterable[ScoredReport]) -> None:
        """Adds the reports of a batch."""
        lines = "".join(json.dumps(prediction_row(report)) + "\n" for report in reports)
        self.rows.append(torch.frombuffer(bytearray(lines.encode()), dtype=torch.uint8).to(self.device))

    def compute(self) -> list[ScoredReport]:
        """All reports, in the order of processes and batches."""
        lines = bytes(dim_zero_cat(self.rows).cpu().numpy()).decode().splitlines()
        reports = (scored_report(json.loads(line)) for line in lines)
        return list({report.image_id: report for report in reports}.values())
