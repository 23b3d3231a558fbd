"""Precision, recall and F1 in which urgent findings weigh more than incidental ones."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from xrayexp.errors import ConfigError
from xrayexp.metrics.base import Floats, Metric, Sums
from xrayexp.metrics.formulas import precision_recall_f1
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NEITHER, NONE_NAMED, NONE_TRUE, Part, row
from xrayexp.metrics.tables import read_table, table_path

TABLE = "relevance.yaml"
URGENT, RELEVANT, INCIDENTAL = CLASSES = ("urgent", "relevant", "incidental")


class Relevance(Metric):
    """Micro scores weighted by what a finding means for the patient, and those of the urgent findings alone.

    Args:
        file: a YAML with `weights` of the three classes, the class of labels that are not listed (`otherwise`) and
            the labels of each; None for the table of this package.

    Raises:
        ConfigError: the file is no such table, or lists a label twice.
    """

    name: ClassVar[str] = "relevance"
    definitions = row(
        "relevance",
        "weighted by relevance",
        precision=Part(
            "named findings, by clinical weight", "Share of the weight of all named findings that is true.", NONE_NAMED
        ),
        recall=Part(
            "true findings, by clinical weight", "Share of the weight of all true findings that is named.", NONE_TRUE
        ),
        f1=Part(
            "findings, true and named, by clinical weight",
            "Harmonic mean of relevance precision and relevance recall.",
            NEITHER,
        ),
        weakness="The classes and weights are a judgement, not a standard: they know neither the patient nor how "
        "severe a finding is.",
        caution="the weights are a judgement",
    ) + row(
        "urgent",
        "urgent findings",
        precision=Part(
            "named urgent findings, over all reports",
            "Share of all named urgent findings that are true.",
            "no urgent finding was named",
        ),
        recall=Part(
            "true urgent findings, over all reports",
            "Share of all true urgent findings that are named.",
            "no report has a true urgent finding",
        ),
        f1=Part(
            "urgent findings, true and named, over all reports",
            "Harmonic mean of urgent precision and urgent recall.",
            "no urgent finding is true or named",
        ),
        weakness="Which findings are urgent is a judgement, and the most frequent of them decide it.",
        caution="the list is a judgement",
    )

    def __init__(self, file: str | None = None) -> None:
        path = Path(file) if file else table_path(TABLE)
        table = read_table(path)
        if set(table) != {"weights", "otherwise", *CLASSES} or set(table["weights"]) != set(CLASSES):
            raise ConfigError([f"{path}: has to have the keys weights (of {', '.join(CLASSES)}), otherwise and these"])
        if table["otherwise"] not in CLASSES:
            raise ConfigError([f"{path}: otherwise must be one of {', '.join(CLASSES)}, not {table['otherwise']}"])
        weights = table["weights"].values()
        if not all(isinstance(weight, int | float) and weight >= 0 for weight in weights):
            raise ConfigError([f"{path}: weights must be numbers of at least 0, not {list(weights)}"])
        self.class_of: dict[str, str] = {}
        for relevance in CLASSES:
            for label in table[relevance]:
                if self.class_of.setdefault(label, relevance) != relevance:
                    raise ConfigError([f"{path}: '{label}' is {self.class_of[label]} as well as {relevance}"])
        self.weights: dict[str, float] = table["weights"]
        self.otherwise: str = table["otherwise"]

    def weight(self, name: str) -> float:
        """What a finding weighs."""
        return self.weights[self.class_of.get(name, self.otherwise)]

    def measure(self, reports: ReportSet) -> Sums:
        names = reports.names
        classes = [self.class_of.get(name, self.otherwise) for name in names.vocabulary]
        weights = np.array([self.weights[relevance] for relevance in classes], dtype=float)
        urgent = np.array([relevance == URGENT for relevance in classes], dtype=float)
        sides = (names.true, names.named, names.correct)
        return Sums(np.stack([side @ chosen for chosen in (weights, urgent) for side in sides], axis=1), _formula)


def _formula(sums: Floats) -> Floats:
    return np.concatenate([precision_recall_f1(sums[..., :3]), precision_recall_f1(sums[..., 3:])], axis=-1)
