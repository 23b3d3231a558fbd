"""ROUGE-L of every report."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Definition, Invariant, Metric, Sums
from xrayexp.metrics.clinical.texts import caution, predicted_texts, true_texts, weakness
from xrayexp.metrics.formulas import means
from xrayexp.metrics.report_set import ReportSet

_WEAKNESS = "It counts words, not findings, and their order: the same findings in another order score less."


class RougeL(Metric):
    """Lin, ACL 2004 workshop: the F1 of the longest common subsequence, in lower case, without stemming.

    Args:
        constructed: whether the true reports are made from labels, so that figures do not compare with published ones.
    """

    name: ClassVar[str] = "rouge"

    def __init__(self, constructed: bool = True) -> None:
        self.wraps = f"torchmetrics {version('torchmetrics')}"
        self.definitions = (
            Definition(
                name="rouge_l",
                title="ROUGE-L",
                averages_over="reports",
                definition="Mean over reports of the F1 of the longest sequence of words that stands in both, gaps "
                "allowed.",
                weakness=weakness(_WEAKNESS, constructed),
                caution=caution("counts words, not findings", constructed),
                undefined="no report was scored",
                invariants=frozenset({Invariant.PERFECT_IS_BEST, Invariant.LISTING_DOES_NOT_WIN}),
            ),
        )

    def measure(self, reports: ReportSet) -> Sums:
        from torchmetrics.functional.text import rouge_score

        pairs = zip(predicted_texts(reports), true_texts(reports), strict=True)
        # In torchmetrics the prediction comes first.
        scores = [float(rouge_score(p, t, rouge_keys="rougeL")["rougeL_fmeasure"]) for p, t in pairs]
        return Sums(np.stack([scores, np.ones(len(scores))], axis=1), means)
