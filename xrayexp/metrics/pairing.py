"""Runs side by side: the images that all of them were scored on, with one truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xrayexp.errors import DataError
from xrayexp.metrics.samples import ScoredReport


@dataclass(frozen=True, slots=True)
class Paired:
    """The same images in every run.

    Attributes:
        reports: by run, in the order in which the runs were given; each [images], the images in one order.
        dropped: by run, how many of its images another run was not scored on.
    """

    reports: Mapping[str, tuple[ScoredReport, ...]]
    dropped: Mapping[str, int]

    @property
    def images(self) -> int:
        """How many images all runs share."""
        return len(next(iter(self.reports.values())))


def pair(runs: Mapping[str, Sequence[ScoredReport]]) -> Paired:
    """Keeps the images that every run was scored on.

    Args:
        runs: the predictions of at least two runs, by the run's name.

    Raises:
        DataError: no image is common to all, an image stands twice in a run, or runs disagree about truth or patient.
    """
    by_image = {name: _by_image(name, reports) for name, reports in runs.items()}
    first, *others = by_image
    shared = [image for image in by_image[first] if all(image in by_image[name] for name in others)]
    if not shared:
        counts = ", ".join(f"{name} has {len(reports):,}" for name, reports in by_image.items())
        raise DataError(f"no image was scored in all of these runs ({counts}): compare runs with the same test split")
    for name in others:
        _require_same_truth(first, name, [(by_image[first][image], by_image[name][image]) for image in shared])
    return Paired(
        {name: tuple(reports[image] for image in shared) for name, reports in by_image.items()},
        {name: len(reports) - len(shared) for name, reports in by_image.items()},
    )


def _by_image(name: str, reports: Sequence[ScoredReport]) -> dict[str, ScoredReport]:
    found: dict[str, ScoredReport] = {}
    for report in reports:
        if report.image_id in found:
            raise DataError(f"{name}: image {report.image_id} is scored twice; evaluate the run again")
        found[report.image_id] = report
    return found


def _require_same_truth(first: str, second: str, pairs: Sequence[tuple[ScoredReport, ScoredReport]]) -> None:
    differing = [a.image_id for a, b in pairs if _truth(a) != _truth(b)]
    if differing:
        raise DataError(
            f"{first} and {second} were scored against different labels or patients in {len(differing):,} of "
            f"{len(pairs):,} images, {differing[0]} among them: evaluate both on the same label file"
        )


def _truth(report: ScoredReport) -> tuple[str, frozenset[tuple[str, frozenset[str]]]]:
    lines = ((finding.name, frozenset(finding.locations)) for finding in report.truth.findings)
    return report.patient_id, frozenset(lines)
