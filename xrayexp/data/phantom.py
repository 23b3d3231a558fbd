"""Procedural chest X-rays: any number of patients, drawn from a seed, labelled in PadChest's own words.

The labels travel as a table with PadChest's columns, so phantoms pass through the same label, report and
split code as the real data. The findings are in the pixels and their boxes are known. A phantom is no
substitute for an X-ray: it exists so that the whole framework runs, and is tested, without any download.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.data.phantom_drawing import Acquisition, Box, draw
from xrayexp.data.report import Finding
from xrayexp.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

LOBES = ("right upper lobe", "right lower lobe", "left upper lobe", "left lower lobe")
SIDES = ("right", "left")

# Finding -> the location lists it may carry, in PadChest's vocabulary and word order.
CHRONIC: dict[str, tuple[tuple[str, ...], ...]] = {
    "cardiomegaly": (("cardiac",),),
    "aortic elongation": (("aortic",),),
    "scoliosis": (("dorsal vertebrae",),),
    "pacemaker": (("pectoral", "left"), ("pectoral", "right")),
    "sternotomy": ((),),
    "calcified granuloma": tuple((lobe,) for lobe in LOBES),
}
ACUTE: dict[str, tuple[tuple[str, ...], ...]] = {
    "pleural effusion": (("pleural", "right"), ("pleural", "left"), ("pleural", "bilateral")),
    "pneumothorax": tuple(("apical", side) for side in SIDES),
    "nodule": tuple((lobe,) for lobe in LOBES),
    "consolidation": tuple((lobe,) for lobe in LOBES),
    "interstitial pattern": (("basal bilateral",), ("diffuse bilateral",)),
    "hemidiaphragm elevation": tuple((side,) for side in SIDES),
    "laminar atelectasis": tuple(("basal", side) for side in SIDES),
}
FINDINGS = (*CHRONIC, *ACUTE)

# How many chronic findings a patient has, and how many acute ones a study adds: 20 % of the studies are normal.
CHRONIC_COUNTS = (0.55, 0.32, 0.13)
ACUTE_COUNTS = (0.36, 0.36, 0.20, 0.08)
STUDIES_PER_PATIENT = (0.6, 0.25, 0.15)

# What covers the same place cannot be told apart, by a person either: at most one finding of a group in a lobe
# or on a side.
RIVALS = (
    ("nodule", "consolidation", "calcified granuloma"),
    ("pleural effusion", "hemidiaphragm elevation", "laminar atelectasis"),
    ("pneumothorax", "pacemaker"),
)


@dataclass(frozen=True, slots=True)
class Phantom:
    """A drawn study: `image` is uint8 [height, width]; `boxes` name the finding that each one holds."""

    image: np.ndarray
    boxes: tuple[Box, ...]


class PhantomSource:
    """Phantom patients with one to three studies each, one frontal image a study.

    Args:
        patients: number of patients; a patient's studies depend on `seed` and the patient's number alone, so
            adding patients changes none of the earlier ones.
        image_size: height and width of the drawn image, in pixels.
        seed: seed of this population.
        acquisition: ranges of contrast, noise, rotation, zoom and shift.
        findings: the abnormal findings that may occur; all of `FINDINGS` when None.

    Raises:
        ConfigError: for a number below one or an unknown finding.
    """

    def __init__(
        self,
        patients: int,
        image_size: int,
        seed: int,
        acquisition: Acquisition,
        findings: Sequence[str] | None = None,
    ) -> None:
        chosen = FINDINGS if findings is None else (findings,) if isinstance(findings, str) else tuple(findings)
        problems = [f"data.source.findings: no phantom shows '{name}'" for name in chosen if name not in FINDINGS]
        for name, number, least in (("patients", patients, 1), ("image_size", image_size, 32), ("seed", seed, 0)):
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                problems.append(f"data.source.{name} must be a whole number of at least {least}, not {number}")
        given: object = acquisition  # from YAML, where anything can stand
        if not isinstance(given, Acquisition):
            problems.append(f"data.source.acquisition must have the keys of Acquisition, not {given}")
        if problems:
            raise ConfigError(problems)
        self.patients, self.image_size, self.seed = patients, image_size, seed
        self.acquisition, self.findings = acquisition, chosen

    def table(self) -> pd.DataFrame:
        """One row per image, in PadChest's columns and label strings."""
        import pandas as pd

        rows = [self._row(patient, study, findings) for patient in range(self.patients)
                for study, findings in enumerate(self._studies(patient))]  # fmt: skip
        return pd.DataFrame(rows)

    def image(self, image_id: str) -> np.ndarray:
        """The image of one row of the table: uint8 [height, width]."""
        return self.phantom(image_id).image

    @property
    def origin(self) -> str:
        """How the population is drawn."""
        return f"phantoms: seed {self.seed}, {self.image_size} pixels, {self.acquisition}, {', '.join(self.findings)}"

    def version(self, image_id: str) -> str:
        """A phantom looks the same every time."""
        return ""

    def absent(self, image_ids: Sequence[str]) -> dict[str, str]:
        """None: every phantom can be drawn."""
        return {}

    def phantom(self, image_id: str) -> Phantom:
        """The image of one row of the table together with the box of every finding that has a place."""
        patient, study = self._parse(image_id)
        findings = self._studies(patient)[study]
        image, boxes = draw(
            findings,
            size=self.image_size,
            acquisition=self.acquisition,
            anatomy=np.random.default_rng([self.seed, patient, 1]),
            rng=np.random.default_rng([self.seed, patient, 2, study]),
        )
        return Phantom(image, boxes)

    def shape(self, image_id: str) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        return self.image_size, self.image_size

    def boxes(self, image_id: str) -> TrueBoxes:
        """The box of every finding that has a place, in pixels."""
        patient, study = self._parse(image_id)
        drawn = self.phantom(image_id).boxes
        found = tuple(FindingBox(box.finding, (box.y0, box.x0, box.y1, box.x1)) for box in drawn)
        names = {finding.name for finding in self._studies(patient)[study]}
        return TrueBoxes(found, unboxed=frozenset(names - {box.finding for box in found}))

    def _parse(self, image_id: str) -> tuple[int, int]:
        try:
            seed, patient, study = (int(part) for part in image_id.removesuffix(".png").split("_")[1:])
        except ValueError:
            raise DataError(f"'{image_id}' is not the name of a phantom") from None
        if seed != self.seed or not 0 <= patient < self.patients or not 0 <= study < len(self._studies(patient)):
            raise DataError(
                f"phantom '{image_id}' is not in this population (seed {self.seed}, {self.patients} patients)"
            )
        return patient, study

    def _row(self, patient: int, study: int, findings: tuple[Finding, ...]) -> dict[str, str]:
        sentences = [[f.name, *(f"loc {place}" for place in f.locations)] for f in findings] or [["normal"]]
        name = f"phantom_{self.seed}_{patient:06d}_{study}"
        return {
            "ImageID": f"{name}.png",
            "PatientID": f"{self.seed}{patient:06d}",
            "StudyID": f"study_{name}",
            "ReportID": f"report_{name}",
            "Projection": "PA",
            "MethodLabel": "Physician",
            "LabelsLocalizationsBySentence": str(sentences),
        }

    # The table asks once for every patient and training again for every image of an epoch.
    @lru_cache(maxsize=100_000)  # noqa: B019  (a source lives as long as the run)
    def _studies(self, patient: int) -> tuple[tuple[Finding, ...], ...]:
        """The abnormal findings of each of a patient's studies; an empty tuple is a normal study."""
        rng = np.random.default_rng([self.seed, patient, 0])
        chronic = self._draw_findings(rng, CHRONIC, CHRONIC_COUNTS, ())
        count = 1 + int(rng.choice(len(STUDIES_PER_PATIENT), p=STUDIES_PER_PATIENT))
        return tuple(self._draw_findings(rng, ACUTE, ACUTE_COUNTS, chronic) for _ in range(count))

    def _draw_findings(
        self,
        rng: np.random.Generator,
        catalogue: dict[str, tuple[tuple[str, ...], ...]],
        counts: tuple[float, ...],
        present: tuple[Finding, ...],
    ) -> tuple[Finding, ...]:
        names = [name for name in catalogue if name in self.findings]
        wanted = min(int(rng.choice(len(counts), p=counts)), len(names))
        found = list(present)
        for index in rng.permutation(len(names))[:wanted]:
            places = catalogue[names[index]]
            finding = Finding(names[index], places[rng.integers(len(places))])
            if not any(_rivals(finding, other) for other in found):
                found.append(finding)
        return tuple(sorted(found, key=lambda f: FINDINGS.index(f.name)))


def _rivals(one: Finding, other: Finding) -> bool:
    """Whether two findings would hide each other."""
    if not any(one.name in group and other.name in group for group in RIVALS):
        return False
    places = {*one.locations, *other.locations}
    return "bilateral" in places or bool(set(one.locations) & set(other.locations))
