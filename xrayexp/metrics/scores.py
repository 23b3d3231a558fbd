"""What an evaluation found: values with their intervals, scores of classes, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xrayexp.metrics.base import Definition

FINDINGS = "findings"  # the metric whose classes are PadChest's findings


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; what does not exist is NaN, and `reason` says why.

    `reason` is empty for a complete estimate, and where the caller asked for no interval. `note` says why the
    interval is another than BCa's.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    reason: str = ""
    note: str = ""

    def to_json(self) -> dict[str, float | str | None]:
        """{value, low, high}, null for NaN, with the reason and the note if there are any."""
        numbers = {"value": _null(self.value), "low": _null(self.low), "high": _null(self.high)}
        words = {"reason": self.reason, "note": self.note}
        return numbers | {key: text for key, text in words.items() if text}


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class, such as a finding, over all reports.

    Attributes:
        name: the class.
        support: reports in which it is true.
        predicted: reports that name it.
        precision: correct over predicted, NaN if never named.
        recall: correct over support, NaN if never true.
        f1: with its interval.
    """

    name: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: Estimate

    def to_json(self) -> dict[str, Any]:
        """Its entry in metrics.json."""
        return {
            "support": self.support,
            "predicted": self.predicted,
            "precision": _null(self.precision),
            "recall": _null(self.recall),
            "f1": self.f1.to_json(),
        }


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A metric that has no values.

    Attributes:
        metric: its name.
        reason: one sentence.
        fix: the command that helps; empty where none is known.
    """

    metric: str
    reason: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.metric} is left out: {self.reason}" + (f"; {self.fix}" if self.fix else "")

    def to_json(self) -> dict[str, str]:
        """Its entry in metrics.json."""
        return {"reason": self.reason} | ({"fix": self.fix} if self.fix else {})


@dataclass(frozen=True, slots=True)
class Scores:
    """All scores of one set of predictions.

    Attributes:
        definitions: what each value means, in the order of the metrics.
        estimates: the values, in the same order and under the same names.
        classes: by metric, such as "findings": its classes by falling support, then by how often they are named, then
            by name.
        wraps: by value, package and version that computed it; nothing for those of this package.
        left_out: metrics without values; never a 0.
        images: number of reports scored.
        patients: number of patients they belong to.
        confidence: of every interval.
        bootstrap: number of resamples behind every interval; 0 if there are none.
        seed: of the resamples.
        training_shares: share of the training images in which each finding is true; None when it is not known.
        details: by metric, what it says beside its values, such as a curve.
    """

    definitions: Mapping[str, Definition]
    estimates: Mapping[str, Estimate]
    classes: Mapping[str, tuple[ClassScore, ...]]
    wraps: Mapping[str, str]
    left_out: tuple[LeftOut, ...]
    images: int
    patients: int
    confidence: float
    bootstrap: int
    seed: int
    training_shares: Mapping[str, float] | None = None
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[ClassScore, ...]:
        """Every finding; empty when the metric was not asked for."""
        return self.classes.get(FINDINGS, ())

    def headline(self, name: str) -> float:
        """One value, NaN where it is undefined.

        Raises:
            KeyError: there is no such value.
        """
        if name not in self.estimates:
            raise KeyError(f"no metric {name!r}; there are {', '.join(self.estimates)}")
        return self.estimates[name].value

    def to_json(self) -> dict[str, Any]:
        """metrics.json: strict JSON, null for what does not exist."""
        return {
            "images": self.images,
            "patients": self.patients,
            "confidence": self.confidence,
            "bootstrap": self.bootstrap,
            "interval": "BCa",
            "seed": self.seed,
            "training_shares": None if self.training_shares is None else dict(self.training_shares),
            "metrics": {name: estimate.to_json() for name, estimate in self.estimates.items()},
            "left_out": {metric.metric: metric.to_json() for metric in self.left_out},
            **{metric: {one.name: one.to_json() for one in classes} for metric, classes in self.classes.items()},
            **self.details,
            "definitions": {
                name: {
                    "title": definition.title,
                    "definition": definition.definition,
                    "weakness": definition.weakness,
                    "averages_over": definition.averages_over,
                    "range": definition.range,
                    "better": definition.direction,
                }
                | ({"wraps": self.wraps[name]} if name in self.wraps else {})
                for name, definition in self.definitions.items()
            },
        }


def _null(number: float) -> float | None:
    return None if math.isnan(number) else number
