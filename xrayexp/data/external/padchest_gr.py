"""PadChest-GR (Castro et al. 2024, arXiv 2411.05085): 4,555 of PadChest's studies, sentence by sentence, with boxes.

Its JSON is a list of studies, each with `findings`: sentences in English and Spanish, PadChest's labels and locations,
`boxes` of the first reader and `extra_boxes` of a second, (x0, y0, x1, y1) in shares of the image. Sentences about what
is normal may lack any of these keys.

Its patients are PadChest's: `data.source.exclude=FILE` of data=padchest takes this JSON and leaves them out of
training, and evaluate.py refuses patients and studies that were trained on.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xrayexp.data.boxes import PIXELS, SHARES, ImageBoxes
from xrayexp.data.external.readers import fuse
from xrayexp.data.external.test_set import LabelledImage, Marks, TestSet
from xrayexp.data.labels import Sentence, findings_of
from xrayexp.data.report import NORMAL, Finding
from xrayexp.errors import ConfigError, DataError

log = logging.getLogger(__name__)

JSON_PATTERN = "grounded_reports_*.json"
MASTER_TABLE = "master_table.csv"
FOLDERS = ("", "PadChest_GR/", "Padchest_GR_files/", "Padchest_GR_files/PadChest_GR/", "images/")
LANGUAGES = ("en", "es")
_SHARE = 1000.0  # boxes are compared on a grid: their overlap does not depend on the image's sides


class PadChestGRSource(TestSet):
    """PadChest-GR in one folder: grounded_reports_*.json, master_table.csv with the patients, and the images.

    Boxes of the two readers that agree are fused; a box that only one of them drew stands, since most studies have a
    single reader.

    Args:
        root: the folder.
        split: a value of master_table.csv's column `split`, such as `test`; None for all studies.
        language: of the sentences that make the report's text: `en` or `es`.
        max_megapixels: larger images are refused.
    """

    title = "PadChest-GR"
    page = "https://bimcv.cipf.es/bimcv-projects/padchest-gr/"
    method = "radiologists"
    convention = SHARES

    def __init__(
        self,
        root: str | None,
        split: str | None = "test",
        language: str = "en",
        max_megapixels: float | None = None,
    ) -> None:
        super().__init__(root, max_megapixels)
        if language not in LANGUAGES:
            raise ConfigError([f"data.source.language must be en or es, not '{language}'"])
        self.split, self.language = split, language

    def read(self) -> Iterator[LabelledImage]:
        """One row per study; studies whose sentences state nothing are left out."""
        found = sorted(self.folder.glob(JSON_PATTERN))
        if not found:
            raise DataError(f"{self.title}: {self.folder} lacks {JSON_PATTERN}; it comes from {self.page}.")
        patients = self._patients()
        for study in read_studies(found[-1]):
            patient, split = patients.get(study["StudyID"], (study["StudyID"], None))
            if self.split is not None and split != self.split:
                continue
            findings, marks = _stated(study["findings"], f"{found[-1]}, image {study['ImageID']}")
            if not findings:
                continue
            texts = [str(one.get(f"sentence_{self.language}") or "") for one in study["findings"]]
            places = tuple(f"{folder}{study['ImageID']}" for folder in FOLDERS)
            yield LabelledImage(
                study["ImageID"], patient, study["StudyID"], findings, places, marks, text=" ".join(filter(None, texts))
            )

    def _patients(self) -> dict[str, tuple[str, str]]:
        """The patient and the split of every study.

        Raises:
            DataError: a split is asked for and there is no table.
        """
        if self.split is None and not (self.folder / MASTER_TABLE).is_file():
            log.warning("PadChest-GR: without %s every study counts as a patient", MASTER_TABLE)
            return {}
        path = self.file(MASTER_TABLE)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        lacking = [name for name in ("StudyID", "PatientID", "split") if rows and name not in rows[0]]
        if lacking:
            raise DataError(f"{path} lacks columns: {', '.join(lacking)}.")
        splits = {row["split"] for row in rows}
        if self.split is not None and self.split not in splits:
            raise DataError(
                f"data.source.split: {path} has no split '{self.split}'; it has {', '.join(sorted(splits))}"
            )
        return {row["StudyID"]: (row["PatientID"], row["split"]) for row in rows}


def read_studies(path: Path) -> list[dict[str, Any]]:
    """The studies of PadChest-GR's JSON, each with StudyID, ImageID and a list of findings.

    Raises:
        DataError: the file is no such JSON.
    """
    try:
        studies: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    ok = isinstance(studies, list) and all(
        isinstance(study, dict)
        and isinstance(study.get("StudyID"), str)
        and isinstance(study.get("ImageID"), str)
        and isinstance(study.get("findings"), list)
        and all(isinstance(one, dict) for one in study["findings"])
        for study in studies
    )
    if not ok:
        raise DataError(f"{path}: is no list of studies with StudyID, ImageID and findings, as PadChest-GR's JSON is.")
    return studies


def _stated(sentences: Sequence[Mapping[str, Any]], where: str) -> tuple[tuple[Finding, ...], Marks]:
    """What a study's sentences state, and where."""
    read = [(_sentence(one), one) for one in sentences if one.get("abnormal")]
    abnormal = [(finding, one) for sentence, one in read for finding in findings_of([sentence])]
    abnormal = [(finding, one) for finding, one in abnormal if finding.name != NORMAL]
    if not abnormal:
        # A sentence that is called abnormal and has none of PadChest's labels is no healthy chest.
        return ((Finding(NORMAL),) if sentences and not read else ()), Marks()
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for finding, one in abnormal:
        boxes.setdefault(finding.name, []).extend(_boxes(one, where))
    return tuple(dict.fromkeys(finding for finding, _ in abnormal)), Marks(
        names=tuple(name for name, drawn in boxes.items() for _ in dict.fromkeys(drawn)),
        values=tuple(box for drawn in boxes.values() for box in dict.fromkeys(drawn)),
        unboxed=frozenset(name for name, drawn in boxes.items() if not drawn),
    )


def _sentence(one: Mapping[str, Any]) -> Sentence:
    labels = [str(label).strip().lower() for label in one.get("labels") or ()]
    places = [str(place).strip().lower().removeprefix("loc ").strip() for place in one.get("locations") or ()]
    return Sentence(tuple(dict.fromkeys(filter(None, labels))), tuple(dict.fromkeys(filter(None, places))))


def _boxes(one: Mapping[str, Any], where: str) -> list[tuple[float, ...]]:
    """The boxes of a sentence, as shares."""
    square = (round(_SHARE), round(_SHARE))
    try:
        drawn = {
            reader: ImageBoxes.of(one.get(reader) or [], SHARES, square).pixels.tolist()
            for reader in ("boxes", "extra_boxes")
        }
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    fused = ImageBoxes.of(fuse(drawn, least=1), PIXELS, square).to(SHARES).values
    return [tuple(box) for box in np.round(fused, 6).tolist()]
