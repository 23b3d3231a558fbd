"""The share of reports whose five CheXbert labels are all right."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.checks import Check
from xrayexp.metrics.base import Definition, Invariant, Metric, Sums
from xrayexp.metrics.clinical.chexbert_f1 import (
    CAUTION,
    FIVE_COLUMNS,
    NEEDS,
    WEAKNESS,
    labels_of,
    missing_weights,
    package,
)
from xrayexp.metrics.clinical.texts import caution, weakness
from xrayexp.metrics.formulas import means
from xrayexp.metrics.report_set import ReportSet


class ChexbertAccuracy(Metric):
    """F1CheXbert's `accuracy`.

    Args:
        constructed: whether the true reports are made from labels, so that figures do not compare with published ones.
        device: such as cpu; None for the GPU if there is one.
    """

    name: ClassVar[str] = "chexbert_accuracy"
    needs = NEEDS

    def __init__(self, constructed: bool = True, device: str | None = None) -> None:
        self.device, self.wraps = device, package()
        told = f"{WEAKNESS} Reports without any of the five are right for a model that never names them."
        self.definitions = (
            Definition(
                name="chexbert5_accuracy",
                title="CheXbert-5 accuracy",
                averages_over="reports",
                definition="Share of reports in which all of CheXbert's 5 labels are right.",
                weakness=weakness(told, constructed),
                caution=caution(CAUTION, constructed),
                undefined="no report was scored",
                invariants=frozenset({Invariant.PERFECT_IS_BEST, Invariant.LISTING_DOES_NOT_WIN}),
            ),
        )

    def unavailable(self) -> Check | None:
        return missing_weights()

    def measure(self, reports: ReportSet) -> Sums:
        rows = labels_of(reports, self.device)
        right = (rows.truths == rows.predictions)[:, FIVE_COLUMNS].all(axis=1)
        return Sums(np.stack([right, np.ones(len(reports))], axis=1).astype(float), means)
