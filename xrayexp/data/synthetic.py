"""Generated images for rare findings: a source of them is any `Source`, and they are trained on, never evaluated on.

A synthetic row may name the real patient that it was made from as its PatientID. It then goes where that patient
goes, and is dropped where that is not training: otherwise a test patient's anatomy would be trained on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from xrayexp.data import table as columns
from xrayexp.data.examples import read_findings
from xrayexp.data.files import file_version
from xrayexp.data.images import read_image
from xrayexp.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xrayexp.data.examples import Source

log = logging.getLogger(__name__)

LABEL_FILE = "labels.csv"


class SyntheticFolder:
    """A folder of generated images.

    It holds `labels.csv` with the columns ImageID (a file of the folder), PatientID (of the real patient that it
    was made from, or any other), StudyID, ReportID, MethodLabel, LabelsLocalizationsBySentence as in PadChest, and
    `provenance`: what generated the image, from what.

    Args:
        root: the folder.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def table(self) -> pd.DataFrame:
        """The rows of labels.csv.

        Raises:
            DataError: the file cannot be read, lacks a column, or a row does not say where its image comes from.
        """
        path = self.root / LABEL_FILE
        try:
            table = pd.read_csv(path, dtype=str)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as labels of synthetic images ({error})") from error
        links = (columns.IMAGE, columns.PATIENT, columns.STUDY, columns.REPORT)
        columns.require_columns(table, (*links, columns.METHOD, columns.SENTENCES, columns.PROVENANCE), str(path))
        if (missing := int(table[columns.PROVENANCE].isna().sum())) > 0:
            raise DataError(f"{path}: {missing} rows do not say where their image comes from (provenance).")
        odd = [name for name in table[columns.IMAGE] if Path(name).name != name]
        if odd:
            raise DataError(f"{path}: {len(odd)} ImageIDs are no plain file names: {columns.listed(odd)}.")
        return table

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """One image of the folder, [height, width].

        Raises:
            DataError: it is missing or broken.
        """
        return read_image(self.root / image_id)

    @property
    def origin(self) -> str:
        """The folder, wherever it is named from."""
        return str(self.root.resolve())

    def version(self, image_id: str) -> str:
        """By the file's size and time.

        Raises:
            DataError: it is missing.
        """
        return file_version(self.root / image_id)

    def absent(self, image_ids: Sequence[str]) -> dict[str, str]:
        """The images whose file is missing."""
        return {name: f"{self.root / name}: no such file" for name in image_ids if not (self.root / name).is_file()}


def synthetic_rows(source: Source, real: pd.DataFrame) -> pd.DataFrame:
    """The rows of a synthetic source, each in the group of the real patient that it was made from, if any.

    Args:
        source: of the images.
        real: the real table, with `GROUP`.

    Returns:
        Its table with `FINDINGS`, `PROVENANCE` and `GROUP`, the latter missing where no real patient is involved.

    Raises:
        DataError: an ImageID is that of a real image.
    """
    table = source.table().reset_index(drop=True)
    taken = table[columns.IMAGE][table[columns.IMAGE].isin(real[columns.IMAGE])].tolist()
    if taken:
        raise DataError(f"{len(taken)} synthetic images have the ImageID of a real one: {columns.listed(taken)}.")
    if columns.FINDINGS not in table:
        table[columns.FINDINGS] = read_findings(table)
    if columns.PROVENANCE not in table:
        table[columns.PROVENANCE] = type(source).__name__
    group = pd.Series(None, index=table.index, dtype=object)
    for column in (columns.PATIENT, columns.STUDY, columns.REPORT):
        known = real.dropna(subset=[column]).drop_duplicates(column).set_index(column)[columns.GROUP]
        group = group.where(group.notna(), table[column].map(known))
    return table.assign(**{columns.GROUP: group})
