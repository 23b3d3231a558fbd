"""CheXpert's 14 labels, as CheXpert and MIMIC-CXR write them: 1 positive, 0 negative, -1 uncertain, '' not said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xrayexp.data.external.test_set import number
from xrayexp.data.observations import FIVE, NO_FINDING, OBSERVATIONS, read_observations
from xrayexp.data.report import NORMAL, Finding
from xrayexp.data.vocabulary import Vocabulary
from xrayexp.errors import ConfigError, DataError

CLASSES = {5: FIVE, 14: OBSERVATIONS}
UNCERTAIN = ("ones", "zeros", "ignore")


class Protocol:
    """Which labels count, and what an uncertain one means.

    Args:
        classes: 14, or 5: CheXpert's competition.
        uncertain: `ones` (positive, as CheXbert's F1 in radiology report generation counts), `zeros` (negative) or
            `ignore` (nothing is scored of that label in that image): U-Ones, U-Zeros and U-Ignore of Irvin et al.

    Raises:
        ConfigError: another choice.
    """

    def __init__(self, classes: int, uncertain: str) -> None:
        if classes not in CLASSES:
            raise ConfigError([f"data.source.classes must be 5 or 14, not {classes}"])
        if uncertain not in UNCERTAIN:
            raise ConfigError([f"data.source.uncertain must be one of {', '.join(UNCERTAIN)}, not '{uncertain}'"])
        self.classes, self.uncertain = CLASSES[classes], uncertain
        labels: dict[str, tuple[str, ...]] = {NO_FINDING: (NORMAL,)}
        labels |= {label: names for label, names in read_observations().items() if label in self.classes}
        self.vocabulary = Vocabulary.of_labels(labels)

    def findings(self, row: Mapping[Any, Any], where: str) -> tuple[tuple[Finding, ...], frozenset[str]]:
        """What a row states, and the names of the labels that are to be ignored.

        Where no label but 'No Finding' is positive, the chest is normal in these labels.

        Raises:
            DataError: a cell is none of 1, 0, -1 and ''.
        """
        true, unknown = [], []
        for label in self.classes:
            cell = str(row[label]).strip()
            value = number(cell, f"{where}, {label}") if cell else 0.0
            if value not in (1.0, 0.0, -1.0):
                raise DataError(f"{where}, {label}: '{cell}' is none of 1, 0, -1 and nothing.")
            name = self.vocabulary.name_of[label]
            if name == NORMAL:
                continue
            if value == -1.0 and self.uncertain == "ignore":
                unknown.append(name)
            elif value == 1.0 or (value == -1.0 and self.uncertain == "ones"):
                true.append(name)
        return tuple(Finding(name) for name in true or [NORMAL]), frozenset(unknown)
