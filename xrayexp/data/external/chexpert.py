"""CheXpert (Irvin et al. 2019): 224,316 images with 14 labels; valid.csv and test.csv are labelled by radiologists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from xrayexp.data.external.chexpert_labels import Protocol
from xrayexp.data.external.test_set import LabelledImage, TestSet, read_csv
from xrayexp.data.vocabulary import Vocabulary
from xrayexp.errors import DataError

PATH = "Path"
_PATIENT = re.compile(r"patient\d+")


class CheXpertSource(TestSet):
    """The frontal images of one of CheXpert's label files.

    Args:
        root: the folder with the label file and the folders `train`, `valid` and `test`.
        file: the label file; train.csv holds a labeler's reading of reports, which has blanks and uncertain labels.
        classes: see `xrayexp.data.external.chexpert_labels.Protocol`.
        uncertain: likewise.
        max_megapixels: larger images are refused.
    """

    title = "CheXpert"
    page = "https://stanfordaimi.azurewebsites.net (CheXpert-v1.0)"
    method = "radiologists"

    def __init__(
        self,
        root: str | None,
        file: str = "valid.csv",
        classes: int = 14,
        uncertain: str = "ones",
        max_megapixels: float | None = None,
    ) -> None:
        super().__init__(root, max_megapixels)
        self.label_file, self.protocol = file, Protocol(classes, uncertain)

    @property
    def vocabulary(self) -> Vocabulary:
        """The labels of the protocol."""
        return self.protocol.vocabulary

    def read(self) -> Iterator[LabelledImage]:
        """One row per frontal image: CheXpert's names say which ones are."""
        path = self.file(self.label_file)
        table = read_csv(path, [PATH, *self.protocol.classes])
        for row in table.to_dict("records"):
            given = PurePosixPath(row[PATH])
            patient = _PATIENT.search(row[PATH])
            if patient is None or len(given.parts) < 4:
                raise DataError(f"{path}: '{row[PATH]}' is no path of CheXpert's, SET/patient00001/study1/VIEW.jpg")
            if "frontal" not in given.name:
                continue
            *_, split, person, study, view = given.parts
            findings, unknown = self.protocol.findings(row, f"{path}, {row[PATH]}")
            within = f"{split}/{person}/{study}/{view}"
            places = (within, row[PATH], f"{person}/{study}/{view}")
            yield LabelledImage(
                within.replace("/", "_"), person, f"{person}_{study}", findings, places, unknown=unknown
            )
