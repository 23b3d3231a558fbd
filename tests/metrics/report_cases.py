"""Reports to be scored: by hand, at random, from tables of labels."""

from __future__ import annotations

from functools import cache
from zlib import crc32

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.data.report import NORMAL, Finding, Report, write_report
from xrayexp.metrics.base import Metric
from xrayexp.metrics.registry import metrics_of
from xrayexp.metrics.samples import ScoredReport

Bools = NDArray[np.bool_]
PLACES = ("left", "right", "pleural")

MULTI_HOT = st.tuples(st.integers(1, 30), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(arrays.arrays(bool, shape), arrays.arrays(bool, shape))
)
"""(truth, named), both [reports, findings]; rows may be empty."""


@cache
def structured() -> tuple[Metric, ...]:
    """All structured metrics."""
    return metrics_of("structured")


def parsed(text: str) -> Report:
    """'nodule @left @pleural, pleural effusion' as a Report: parts by commas, locations behind @."""
    parts = [part.split("@") for part in text.split(",") if part.strip()]
    return Report(tuple(Finding(name.strip(), tuple(p.strip() for p in places)) for name, *places in parts))


def pair(truth: str, predicted: str | None, image: str = "i", patient: str | None = None) -> ScoredReport:
    """A true and a predicted report, in the form of `parsed`; None for one that could not be parsed."""
    named = None if predicted is None else parsed(predicted)
    return with_text(parsed(truth), named, image, image if patient is None else patient)


def with_text(truth: Report, predicted: Report | None, image: str, patient: str) -> ScoredReport:
    """Reports with their texts, as a run would write them, and a box for every finding."""
    return ScoredReport(
        image_id=image,
        patient_id=patient,
        truth=truth,
        predicted=predicted,
        truth_text=text_of(truth),
        predicted_text="babble" if predicted is None else text_of(predicted),
        true_boxes=TrueBoxes(boxes_of(truth)),
        predicted_boxes=() if predicted is None else boxes_of(predicted),
        confidence={} if predicted is None else confidence_of(predicted),
    )


def confidence_of(report: Report) -> dict[str, float]:
    """A probability below a half for every name: of what is right too little, of what is wrong not much."""
    return {name: crc32(name.encode()) % 500 / 1000 for name in sorted(report.names)}


def boxes_of(report: Report) -> tuple[FindingBox, ...]:
    """A box for every finding but 'normal', in a place of its own."""
    corners = [(f.name, *divmod(crc32(f.name.encode()) % 400, 20)) for f in report.findings if f.name != NORMAL]
    return tuple(FindingBox(name, (float(y), float(x), y + 30.0, x + 20.0)) for name, y, x in corners)


def text_of(report: Report) -> str:
    """As a run would write it; 'normal' beside findings is left out, and nothing is no text."""
    findings = [finding for finding in report.findings if finding.name != NORMAL or len(report.findings) == 1]
    return write_report(findings) if findings else ""


def report_of(names: Bools, places: NDArray[np.integer]) -> Report:
    """The findings f0, f1, ... that are marked, each with its place (or none)."""
    return Report(
        tuple(
            Finding(f"f{index}", (PLACES[place],) if place < len(PLACES) else ())
            for index, (named, place) in enumerate(zip(names, places, strict=True))
            if named
        )
    )


def random_reports(images: int, patients: int, findings: int, seed: int = 0) -> list[ScoredReport]:
    """Reports with rare and common findings, mostly right; each patient has at least one."""
    generator = np.random.default_rng(seed)
    truth = generator.random((images, findings)) < 0.6 / np.arange(1, findings + 1)
    truth[:, 0] |= ~truth.any(axis=1)
    named = truth ^ (generator.random(truth.shape) < 0.1)
    places = generator.integers(len(PLACES) + 1, size=truth.shape)
    guessed = np.where(generator.random(truth.shape) < 0.8, places, 0)
    return [
        with_text(
            report_of(truth[index], places[index]),
            report_of(named[index], guessed[index]) if index % 11 else None,
            f"image {index}",
            f"patient {index % patients}",
        )
        for index in range(images)
    ]


def from_multi_hot(truth: Bools, named: Bools) -> list[ScoredReport]:
    """A report and a patient for each row."""
    nowhere = np.full(truth.shape[1], len(PLACES))
    return [
        with_text(report_of(truth[i], nowhere), report_of(named[i], nowhere), str(i), str(i)) for i in range(len(truth))
    ]
