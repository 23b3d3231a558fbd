"""Precision, recall and F1 with credit for a broader, narrower or neighbouring finding."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from xrayexp.data.hierarchy import read_hierarchy
from xrayexp.metrics.base import Invariant, Metric, Sums
from xrayexp.metrics.formulas import precision_recall_f1
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NEITHER, NONE_NAMED, NONE_TRUE, Part, row
from xrayexp.metrics.tables import table_path

TREE = "padchest_tree.csv"


class Hierarchical(Metric):
    """Micro scores of the findings together with all that stands above them in a tree.

    Kiritchenko, Matwin & Famili, Functional annotation of genes using hierarchical text categorization (2005): each
    set of labels is extended by the ancestors of its labels, the root aside. 'lobar atelectasis' for 'laminar
    atelectasis' agrees in 'atelectasis'.

    Args:
        file: a CSV with the columns `label` and `parent`; None for the tree of this package.

    Raises:
        DataError: the file is no tree.
    """

    name: ClassVar[str] = "hierarchical"
    definitions = row(
        "hierarchical",
        "hierarchical",
        precision=Part(
            "named findings and what is above them",
            "Share of the named findings and their ancestors that are true findings or ancestors of true ones.",
            NONE_NAMED,
        ),
        recall=Part(
            "true findings and what is above them",
            "Share of the true findings and their ancestors that are named findings or ancestors of named ones.",
            NONE_TRUE,
        ),
        f1=Part(
            "findings and what is above them, true and named",
            "Harmonic mean of hierarchical precision and hierarchical recall.",
            NEITHER,
        ),
        weakness="The tree decides what is nearly right, not its meaning for the patient: a finding deep in the tree "
        "counts several times, and one without parents gives no credit.",
        caution="partial credit by the tree",
        broken=frozenset({Invariant.WRONG_BEATS_NOTHING}),
    )

    def __init__(self, file: str | None = None) -> None:
        self.parents = read_hierarchy(Path(file) if file else table_path(TREE))

    def measure(self, reports: ReportSet) -> Sums:
        return Sums(np.stack(reports.names.mapped(self.line).sizes(), axis=1), precision_recall_f1)

    def line(self, name: str) -> tuple[str, ...]:
        """A finding and its ancestors, from the bottom up."""
        line = [name]
        while (parent := self.parents.get(line[-1])) is not None:
            line.append(parent)
        return tuple(line)
