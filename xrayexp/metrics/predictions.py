"""Predictions as lines of predictions.jsonl, and back: all that is needed to score them again, without the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.data.report import Finding, Report
from xrayexp.errors import DataError
from xrayexp.metrics.samples import ScoredReport, per_sample


def prediction_row(scored: ScoredReport) -> dict[str, Any]:
    """The line of one prediction, as far as its scores need it."""
    return (
        {
            "image_id": scored.image_id,
            "patient_id": scored.patient_id,
            "truth": _findings(scored.truth),
            "truth_text": scored.truth_text,
            "text": scored.predicted_text,
            "predicted": None if scored.predicted is None else _findings(scored.predicted),
            "scores": per_sample(scored),
        }
        | _probabilities("confidence", scored.confidence)
        | _probabilities("sampled", scored.sampled)
        | _boxes(scored)
    )


def scored_report(row: Mapping[str, Any]) -> ScoredReport:
    """The prediction of a line; what else stands in it is left alone."""
    truth, predicted = report_of(row["truth"]), row["predicted"]
    return ScoredReport(
        image_id=row["image_id"],
        patient_id=row["patient_id"],
        truth=truth,
        predicted=None if predicted is None else report_of(predicted),
        truth_text=row.get("truth_text", ""),  # lines of earlier versions have none
        predicted_text=row["text"],
        true_boxes=_true_boxes(row.get("true_boxes")),
        predicted_boxes=None if row.get("boxes") is None else finding_boxes(row["boxes"]),
        confidence=None if row.get("confidence") is None else confidence_of(row["confidence"]),
        sampled=None if row.get("sampled") is None else confidence_of(row["sampled"]),
    )


def read_predictions(file: Path) -> list[ScoredReport]:
    """The predictions of a file, in its order.

    Raises:
        DataError: it cannot be read, a line is no prediction, or an image stands there twice.
    """
    try:
        # str.splitlines would cut at U+2028 and its kind, which a model may write.
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    found: dict[str, ScoredReport] = {}
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        try:
            report = scored_report(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file}, line {number}: is no prediction ({type(error).__name__}: {error})") from error
        if report.image_id in found:
            raise DataError(f"{file}, line {number}: image {report.image_id} has a prediction already")
        found[report.image_id] = report
    return list(found.values())


def confidence_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Of a line's probabilities, by finding.

    Raises:
        AttributeError, TypeError, ValueError: they are none.
    """
    found = {name: float(probability) for name, probability in row.items()}
    for name, probability in found.items():
        if not 0 <= probability <= 1:
            raise ValueError(f"the confidence of '{name}' is a probability, from 0 to 1, not {probability:g}")
    return found


def _probabilities(key: str, of: Mapping[str, float] | None) -> dict[str, Any]:
    return {} if of is None else {key: {name: round(probability, 6) for name, probability in of.items()}}


def _boxes(scored: ScoredReport) -> dict[str, Any]:
    """Boxes in the file's pixels, (y0, x0, y1, x1), where there are any to compare."""
    found: dict[str, Any] = {}
    if scored.true_boxes is not None:
        drawn = [{"finding": box.finding, "box": list(box.box)} for box in scored.true_boxes.boxes]
        found["true_boxes"] = {"boxes": drawn, "unboxed": sorted(scored.true_boxes.unboxed)}
    if scored.predicted_boxes is not None:
        found["boxes"] = [
            {"finding": box.finding, "box": list(box.box), "score": box.score} for box in scored.predicted_boxes
        ]
    return found


def _true_boxes(row: Mapping[str, Any] | None) -> TrueBoxes | None:
    return None if row is None else TrueBoxes(finding_boxes(row["boxes"]), frozenset(row["unboxed"]))


def finding_boxes(rows: Sequence[Mapping[str, Any]]) -> tuple[FindingBox, ...]:
    """Of a line's boxes.

    Raises:
        KeyError, TypeError, ValueError: one is no finding with a box of four finite numbers.
    """
    found = []
    for row in rows:
        y0, x0, y1, x1 = (float(number) for number in row["box"])
        score = float(row.get("score", 1.0))
        if not all(map(math.isfinite, (y0, x0, y1, x1, score))):
            raise ValueError(f"a box and its score are finite numbers, not {row['box']} and {score}")
        if not (y0 < y1 and x0 < x1):
            raise ValueError(f"a box is y0, x0, y1, x1 with y0 < y1 and x0 < x1, not {row['box']}")
        found.append(FindingBox(str(row["finding"]), (y0, x0, y1, x1), score))
    return tuple(found)


def _findings(report: Report) -> list[dict[str, Any]]:
    return [{"name": finding.name, "locations": list(finding.locations)} for finding in report.findings]


def report_of(findings: Sequence[Mapping[str, Any]]) -> Report:
    """The report of a line's findings.

    Raises:
        KeyError, TypeError: they are none.
    """
    return Report(tuple(Finding(finding["name"], tuple(finding["locations"])) for finding in findings))
