"""Predictions as lines of predictions.jsonl, and back: all that is needed to score them again, without the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xrayexp.data.report import Finding, Report
from xrayexp.errors import DataError
from xrayexp.metrics.samples import ScoredReport, per_sample


def prediction_row(scored: ScoredReport) -> dict[str, Any]:
    """The line of one prediction, as far as its scores need it."""
    return {
        "image_id": scored.image_id,
        "patient_id": scored.patient_id,
        "truth": _findings(scored.truth),
        "truth_text": scored.truth_text,
        "text": scored.predicted_text,
        "predicted": None if scored.predicted is None else _findings(scored.predicted),
        "scores": per_sample(scored),
    }


def scored_report(row: Mapping[str, Any]) -> ScoredReport:
    """The prediction of a line; what else stands in it is left alone."""
    truth, predicted = _report(row["truth"]), row["predicted"]
    return ScoredReport(
        image_id=row["image_id"],
        patient_id=row["patient_id"],
        truth=truth,
        predicted=None if predicted is None else _report(predicted),
        truth_text=row.get("truth_text", ""),  # lines of earlier versions have none
        predicted_text=row["text"],
    )


def read_predictions(file: Path) -> list[ScoredReport]:
    """The predictions of a file, in its order.

    Raises:
        DataError: it cannot be read, or a line is no prediction.
    """
    try:
        # str.splitlines would cut at U+2028 and its kind, which a model may write.
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    found = []
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        try:
            found.append(scored_report(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}, line {number}: is no prediction ({type(error).__name__}: {error})") from error
    return found


def _findings(report: Report) -> list[dict[str, Any]]:
    return [{"name": finding.name, "locations": list(finding.locations)} for finding in report.findings]


def _report(findings: Sequence[Mapping[str, Any]]) -> Report:
    return Report(tuple(Finding(finding["name"], tuple(finding["locations"])) for finding in findings))
