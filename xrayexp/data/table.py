"""The columns of a PadChest table that this package reads and adds, and the checks that every reader shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xrayexp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# PadChest's own.
IMAGE = "ImageID"
FOLDER = "ImageDir"
PATIENT = "PatientID"
STUDY = "StudyID"
REPORT = "ReportID"
DATE = "StudyDate_DICOM"
BIRTH = "PatientBirth"
PEDIATRIC = "Pediatric"
PROJECTION = "Projection"
METHOD = "MethodLabel"
LABELS = "Labels"
SENTENCES = "LabelsLocalizationsBySentence"

# Made of them by this package, see `xrayexp.data.label_file.read_labels`; or filled by another source.
AGE = "age"  # years, the study's year less the year of birth; NaN where either is missing
STATUS = "status"  # what can be reported of the row at all: UNLABELLED to USABLE of xrayexp.data.label_file
FINDINGS = "findings"  # tuple of Finding
GROUP = "group"  # the smallest PatientID of everyone who shares a patient, study or report, directly or not
UNKNOWN = "unknown"  # names of findings of which nothing is known in the image; only from sources that have such
TEXT = "text"  # a radiologist's report; likewise
PROVENANCE = "provenance"  # how a synthetic image came about; missing where the image is real


def require_columns(table: pd.DataFrame, columns: Iterable[str], where: str = "The table") -> None:
    """Raise DataError naming every column that the table lacks."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"{where} lacks columns: {', '.join(missing)}.")


def listed(values: Sequence[str], limit: int = 5) -> str:
    """The first values in one line for a message, and how many more there are."""
    shown = ", ".join(str(value) for value in values[:limit])
    more = len(values) - limit
    return f"{shown} and {more} more" if more > 0 else shown
