"""PadChest as a source of examples: the label file's rows that can be reported, and their images.

The label file and the images come from BIMCV (https://bimcv.cipf.es/bimcv-projects/padchest/) and are laid
out as downloaded: the label file in the root folder, the images in one subfolder per `ImageDir` or all in
the root folder.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xrayexp.data import table as columns
from xrayexp.data.images import read_image
from xrayexp.data.labels import PHYSICIAN, RNN_MODEL, STATUSES, parse_labels
from xrayexp.errors import ConfigError, DataError

log = logging.getLogger(__name__)

LABEL_FILES = tuple(f"PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv{ending}" for ending in ("", ".gz"))
FRONTAL = ("PA", "AP", "AP_horizontal")
PROJECTIONS = (*FRONTAL, "L", "COSTAL", "EXCLUDE", "UNK")
METHODS = (PHYSICIAN, RNN_MODEL)
COLUMNS = (
    columns.IMAGE,
    columns.FOLDER,
    columns.PATIENT,
    columns.STUDY,
    columns.REPORT,
    columns.PROJECTION,
    columns.METHOD,
    columns.LABELS,
    columns.SENTENCES,
)

# No separators and no "..": a name in the label file can never point outside the root folder.
_PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


class PadChestSource:
    """The usable rows of PadChest's label file, and their images.

    Usable are images of the chosen projections and label methods that have a label, that the radiologists
    neither excluded nor called suboptimal, and whose only statement is not 'unchanged', which no one can
    report from one image. Labels are per study: laterals repeat those of the frontal image.

    Args:
        root: the folder that holds the label file and the images; None is reported when data is asked for.
        projections: values of `Projection` to keep.
        labels: values of `MethodLabel` to keep: 'Physician' (24 %), 'RNN_model' (predicted from the text).

    Raises:
        ConfigError: an unknown or no projection or label method.
    """

    def __init__(
        self,
        root: str | None,
        projections: Sequence[str] = FRONTAL,
        labels: Sequence[str] = METHODS,
    ) -> None:
        self.root = root
        self.projections = tuple(projections)
        self.labels = tuple(labels)
        problems = [
            *_unknown("data.source.projections", self.projections, PROJECTIONS),
            *_unknown("data.source.labels", self.labels, METHODS),
        ]
        if problems:
            raise ConfigError(problems)

    def table(self) -> pd.DataFrame:
        """The usable rows, with `COLUMNS` as text.

        Raises:
            DataError: no folder, no label file, a broken or incomplete one, or no usable row.
        """
        return self._selected[0]

    @property
    def funnel(self) -> list[tuple[str, int]]:
        """The steps of the selection, and how many rows each left."""
        return self._selected[1]

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image of a usable row, [height, width].

        Raises:
            DataError: the row is not in the table, its name leaves the root folder, or the file is broken.
        """
        if image_id not in self._folders:
            raise DataError(f"Image {image_id} is not among the selected rows of PadChest.")
        folder = self._folders[image_id]
        for name in (folder, image_id):
            if not _PLAIN_NAME.fullmatch(name):
                raise DataError(f"Image {image_id} in folder {folder}: {name!r} is not a plain file name.")
        nested, flat = self._folder / folder / image_id, self._folder / image_id
        return read_image(flat if flat.exists() and not nested.exists() else nested)

    @property
    def _folder(self) -> Path:
        if self.root is None:
            raise DataError(
                "No PadChest folder: set data.root to the folder that holds the label file and the images "
                "(from https://bimcv.cipf.es/bimcv-projects/padchest/)."
            )
        return Path(self.root)

    @cached_property
    def _selected(self) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
        path = find_label_file(self._folder)
        table = read_label_file(path)
        steps = _selection(table, self.projections, self.labels)
        kept, funnel = np.ones(len(table), dtype=bool), [(f"rows of {path.name}", len(table))]
        for step, mask in steps.items():
            kept &= mask
            funnel.append((step, int(kept.sum())))
        lines = "\n".join(f"  {rows:>7} {step}" for step, rows in funnel)
        log.info("PadChest, rows that are left:\n%s", lines)
        if not kept.any():
            raise DataError(f"{path}: no row is left to train on.\n{lines}")
        return table[kept].reset_index(drop=True), funnel

    @cached_property
    def _folders(self) -> dict[str, str]:
        table = self.table()
        return dict(zip(table[columns.IMAGE], table[columns.FOLDER], strict=True))


def find_label_file(folder: Path) -> Path:
    """The label file in PadChest's root folder.

    Raises:
        DataError: the folder or the file does not exist; names the file names looked for.
    """
    if not folder.is_dir():
        raise DataError(f"PadChest folder {folder}: no such folder (data.root).")
    found = [folder / name for name in LABEL_FILES if (folder / name).is_file()]
    if not found:
        raise DataError(f"PadChest folder {folder} holds no label file: expected {' or '.join(LABEL_FILES)}.")
    return found[0]


def read_label_file(path: Path) -> pd.DataFrame:
    """Read `COLUMNS` of PadChest's label file as text: its PatientIDs have more digits than any number type.

    Raises:
        DataError: the file is broken, lacks columns, repeats an ImageID or lacks an identifier.
    """
    try:
        header = pd.read_csv(path, nrows=0)
        columns.require_columns(header, COLUMNS, where=str(path))
        table = pd.read_csv(path, dtype=str, usecols=list(COLUMNS))[list(COLUMNS)]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a label file ({error})") from error
    for column in (columns.IMAGE, columns.FOLDER, columns.PATIENT, columns.STUDY):
        if (missing := int(table[column].isna().sum())) > 0:
            raise DataError(f"{path}: {missing} rows have no {column}.")
    repeated = table[columns.IMAGE][table[columns.IMAGE].duplicated()].unique().tolist()
    if repeated:
        raise DataError(f"{path}: {len(repeated)} ImageIDs are repeated: {columns.listed(repeated)}.")
    return table


def _selection(table: pd.DataFrame, projections: Sequence[str], methods: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """What each step of the selection keeps, [rows]."""
    labels = _label_sets(table[columns.LABELS])

    def keep_if(kept: Sequence[bool]) -> NDArray[np.bool_]:
        return np.array(kept, dtype=bool)

    return {
        f"projection {', '.join(projections)}": table[columns.PROJECTION].isin(projections).to_numpy(),
        f"labels by {', '.join(methods)}": table[columns.METHOD].isin(methods).to_numpy(),
        "with a label": keep_if([bool(row) for row in labels]),
        "not excluded": keep_if(["exclude" not in row for row in labels]),
        "not suboptimal": keep_if(["suboptimal study" not in row for row in labels]),
        "not only 'unchanged'": keep_if([bool(row - STATUSES) for row in labels]),
    }


def _label_sets(column: pd.Series[str]) -> list[frozenset[str]]:
    """The labels of each row; none where the column is empty.

    `Labels` decides which rows are usable, not the sentences: a report with one sentence that was excluded
    still has its other findings.
    """
    parsed = {text: frozenset(parse_labels(text)) for text in column.dropna().unique()}
    return [parsed.get(text, frozenset()) for text in column]


def _unknown(key: str, values: Sequence[str], known: Sequence[str]) -> list[str]:
    """Problems with a list-valued option."""
    expected = ", ".join(known)
    if not values:
        return [f"{key}: choose at least one of {expected}"]
    return [f"{key}: unknown {value!r}, expected {expected}" for value in values if value not in known]
