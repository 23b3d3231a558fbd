"""Mean average precision, as a formula on sums: boxes drawn and boxes that hit, by finding and level of score.

pycocotools computes the same value (a test compares them), but not the thousand resamples of an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from xrayexp.metrics.base import Definition, Floats, Metric, Sums
from xrayexp.metrics.localization.counts import THRESHOLDS, FindingCounts
from xrayexp.metrics.localization.precision import average_precision
from xrayexp.metrics.report_set import ReportSet


def _definition(threshold: float) -> Definition:
    return Definition(
        name=f"map_{round(100 * threshold)}",
        title=f"mAP, IoU {threshold:g}",
        averages_over="findings with a true box",
        definition=f"Mean, over the findings with a true box, of COCO's average precision at an IoU of {threshold:g}: "
        "the precision, made to fall with recall, averaged over 101 recalls.",
        weakness="It needs scores: of a model that gives none, all boxes enter at once, and the value is near "
        "precision times recall. Findings with a handful of boxes weigh as much as those with thousands, and boxes of "
        "findings that are never true cost nothing.",
        caution="needs scores; rare findings weigh as much",
        undefined="there is no true box",
    )


class MeanAveragePrecision(Metric):
    """At an IoU of 0.3, which suits radiologists' boxes that differ among themselves, and of 0.5."""

    name: ClassVar[str] = "mean_average_precision"
    definitions = tuple(_definition(threshold) for threshold in THRESHOLDS)

    def measure(self, reports: ReportSet) -> Sums:
        findings = sorted({name for counted in reports.boxes for name, counts in counted.items() if counts.true})
        levels = sorted(
            {level for counted in reports.boxes for c in counted.values() for level in c.named}, reverse=True
        )
        layout = _Layout(findings, levels)
        return Sums(layout.table(reports.boxes), layout.formula)


class _Layout:
    """The columns: true boxes of every finding, then, by finding and level, boxes drawn and boxes right."""

    def __init__(self, findings: Sequence[str], levels: Sequence[int]) -> None:
        self.findings = {name: index for index, name in enumerate(findings)}
        self.levels = {level: index for index, level in enumerate(levels)}

    def table(self, counted: Sequence[dict[str, FindingCounts]]) -> csr_array:
        """[reports, columns]."""
        cells = [(row, *cell) for row, counts in enumerate(counted) for cell in self._cells(counts)]
        rows, columns, values = np.array(cells, dtype=float).reshape(-1, 3).T
        width = len(self.findings) * (1 + len(self.levels) * (1 + len(THRESHOLDS)))
        shape = (len(counted), width)
        return csr_array((values, (rows.astype(int), columns.astype(int))), shape=shape)  # repeated cells add up

    def formula(self, sums: Floats) -> Floats:
        """From [..., columns] to [..., thresholds]."""
        findings, levels = len(self.findings), len(self.levels)
        true = sums[..., :findings]
        by_level = sums[..., findings:].reshape(*sums.shape[:-1], 1 + len(THRESHOLDS), findings, levels)
        values = []
        for block in range(1, 1 + len(THRESHOLDS)):
            precisions = average_precision(true, by_level[..., 0, :, :], by_level[..., block, :, :])  # [..., findings]
            there = true > 0
            number = there.sum(axis=-1)
            total = np.where(there, precisions, 0.0).sum(axis=-1)
            values.append(np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0))
        return np.stack(values, axis=-1)

    def _cells(self, counts: dict[str, FindingCounts]) -> list[tuple[int, float]]:
        """(column, value) of one report; findings that are never true have no columns."""
        cells: list[tuple[int, float]] = []
        block = len(self.findings) * len(self.levels)
        for name, c in counts.items():
            if name not in self.findings:
                continue
            cells.append((self.findings[name], c.true))
            for place, level in enumerate(c.named):
                column = len(self.findings) + self.findings[name] * len(self.levels) + self.levels[level]
                cells.append((column, 1))
                cells += [(column + (t + 1) * block, c.correct[THRESHOLDS[t]][place]) for t in range(len(THRESHOLDS))]
        return cells
