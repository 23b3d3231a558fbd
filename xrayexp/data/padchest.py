"""PadChest as a source of examples: the label file's rows that can be reported, and their images.

The label file and the images come from BIMCV (https://bimcv.cipf.es/bimcv-projects/padchest/) and are laid
out as downloaded: the label file in the root folder, the images in one subfolder per `ImageDir` or all in
the root folder. A mirror with smaller images is laid out the same way, and may hold JPEGs of the same names.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xrayexp.data import table as columns
from xrayexp.data.files import ImageFiles, file_version, find_images
from xrayexp.data.image_index import Faults, ImageIndex, known_faults
from xrayexp.data.images import read_image
from xrayexp.data.label_file import find_label_file, read_labels
from xrayexp.data.labels import PHYSICIAN, RNN_MODEL
from xrayexp.data.selection import Funnel, Selection, select
from xrayexp.errors import ConfigError, DataError

log = logging.getLogger(__name__)

FRONTAL = ("PA", "AP", "AP_horizontal")
PROJECTIONS = (*FRONTAL, "L", "COSTAL", "EXCLUDE", "UNK")
METHODS = (PHYSICIAN, RNN_MODEL)
SUSPECTS = ("keep", "drop")


class PadChestSource:
    """The usable rows of PadChest's label file, and their images.

    Usable are images of the chosen projections and label methods that have a label, that the radiologists
    neither excluded nor called suboptimal, and whose only statement is not 'unchanged', which no one can
    report from one image. Labels are per study: laterals repeat those of the frontal image.

    Args:
        root: the folder that holds the label file and the images; None is reported when data is asked for.
        projections: values of `Projection` to keep.
        labels: values of `MethodLabel` to keep: 'Physician' (24 %), 'RNN_model' (predicted from the text).
        min_age: least age in years, the study's year less the year of birth; None for all. Some 6,000 images of
            children are not flagged as pediatric.
        min_studies: studies in which a finding must occur. Rarer ones are reported under their parent's name where
            `hierarchy` gives one; rows with others are left out. Counted over all splits, since it is part of the
            task, as the list of findings is.
        hierarchy: CSV with the columns `label` and `parent`; None for none.
        exclude: file of PatientIDs, StudyIDs, ReportIDs or ImageIDs (one a line, or a CSV with such columns), or
            PadChest-GR's JSON: of the patients of a test set that comes later. All who share a patient, study or
            report with one of them are left out.
        suspects: what becomes of images that `xrayexp data check` found unlike a chest: `keep`, said in the log, or
            `drop`. Those that it could not read or found constant are left out in any case.
        max_megapixels: larger images are refused; None for no limit.
        cache_dir: where the parsed label file and what `xrayexp data check` found are kept; None to parse every time.

    Raises:
        ConfigError: an unknown or no projection or label method, another unknown choice, or a number out of range.
    """

    def __init__(
        self,
        root: str | None,
        projections: Sequence[str] = FRONTAL,
        labels: Sequence[str] = METHODS,
        min_age: int | None = None,
        min_studies: int = 1,
        hierarchy: str | None = None,
        exclude: str | None = None,
        suspects: str = "keep",
        max_megapixels: float | None = None,
        cache_dir: str | None = None,
    ) -> None:
        self.root, self.suspects, self.max_megapixels = root, suspects, max_megapixels
        self.cache_dir = None if cache_dir is None else Path(cache_dir).expanduser()
        self.selection = Selection(tuple(projections), tuple(labels), min_age, min_studies, hierarchy, exclude)
        problems = [
            *_unknown("data.source.projections", self.selection.projections, PROJECTIONS),
            *_unknown("data.source.labels", self.selection.methods, METHODS),
            *_unknown("data.source.suspects", [suspects], SUSPECTS),
            *_below("data.source.min_age", min_age, 0),
            *_below("data.source.min_studies", min_studies, 1),
        ]
        if problems:
            raise ConfigError(problems)

    def table(self) -> pd.DataFrame:
        """The usable rows, with the columns of `read_labels`.

        Raises:
            DataError: no folder, no label file, a broken or incomplete one, or no usable row.
        """
        return self._selected.table

    @property
    def funnel(self) -> list[tuple[str, int]]:
        """The steps of the selection, and how many rows each left."""
        return self._selected.steps

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image of a usable row, [height, width].

        Raises:
            DataError: the row is not in the table, or its file is missing, broken or too large.
        """
        return read_image(self._file(image_id), self.max_megapixels)

    @property
    def origin(self) -> str:
        """The root folder, wherever it is named from."""
        return str(self.folder.resolve())

    def version(self, image_id: str) -> str:
        """By the file's size and time.

        Raises:
            DataError: the row is not in the table, or its file is missing.
        """
        return file_version(self._file(image_id))

    def absent(self, image_ids: Sequence[str]) -> dict[str, str]:
        """Images that cannot be used, and why.

        There is no file, a link puts it outside of the root folder, or `xrayexp data check` found that it cannot be
        read or is constant, and it has not changed since.
        """
        wanted = frozenset(image_ids)
        broken = {image_id: why for image_id, why in self._faults.broken.items() if image_id in wanted}
        return dict(self.files(image_ids).absent) | broken

    def files(self, image_ids: Sequence[str]) -> ImageFiles:
        """Where these images lie."""
        return self._images.of(image_ids)

    @property
    def folder(self) -> Path:
        """The root folder.

        Raises:
            DataError: when none is given.
        """
        if self.root is None:
            raise DataError(
                "No PadChest folder: set data.root to the folder that holds the label file and the images "
                "(from https://bimcv.cipf.es/bimcv-projects/padchest/)."
            )
        return Path(self.root).expanduser()

    def _file(self, image_id: str) -> Path:
        place = self._images.found.get(image_id)
        if place is None:
            unselected = f"Image {image_id} is not among the selected rows of PadChest."
            raise DataError(self._images.absent.get(image_id, unselected))
        return self._images.root / place

    @cached_property
    def _selected(self) -> Funnel:
        path = find_label_file(self.folder)
        funnel = select(read_labels(path, self.cache_dir), self.selection, path.name)
        if self.suspects == "drop":
            self._drop_suspects(funnel)
        log.info("PadChest, rows that are left:\n%s", funnel)
        if funnel.table.empty:
            raise DataError(f"{path}: no row is left to train on.\n{funnel}")
        funnel.table = funnel.table.reset_index(drop=True)
        return funnel

    def _drop_suspects(self, funnel: Funnel) -> None:
        if self._checked is None or self._checked.empty:
            raise DataError(
                f"data.source.suspects=drop: the images of {self.folder} have not been looked at. "
                f"`xrayexp data check data.root={self.folder}` does it, with the same data.cache_dir."
            )
        files = find_images(self.folder, _folders(funnel.table), self.max_megapixels)
        suspect = known_faults(self._checked, files).suspect
        funnel.keep("not suspect (xrayexp data check)", ~funnel.table[columns.IMAGE].isin(suspect))

    @cached_property
    def _checked(self) -> pd.DataFrame | None:
        """What `xrayexp data check` kept of this folder; None without a cache."""
        return None if self.cache_dir is None else ImageIndex(self.cache_dir, self.folder).read()

    @cached_property
    def _faults(self) -> Faults:
        """What is known against the selected images."""
        if self._checked is None or self._checked.empty:
            return Faults({}, {})
        faults = known_faults(self._checked, self._images)
        if faults.suspect:
            log.warning(
                "%s images do not look like a chest and are used (data.source.suspects=drop leaves them out; "
                "`xrayexp data check` shows them), one of them: %s",
                f"{len(faults.suspect):,}", next(iter(faults.suspect.values())),
            )  # fmt: skip
        return faults

    @cached_property
    def _images(self) -> ImageFiles:
        """Of all selected rows. Folders are listed once: on a slow mount that takes its time."""
        return find_images(self.folder, _folders(self.table()), self.max_megapixels)


def _folders(table: pd.DataFrame) -> dict[str, str]:
    """The `ImageDir` of each image."""
    return dict(zip(table[columns.IMAGE], table[columns.FOLDER], strict=True))


def _unknown(key: str, values: Sequence[str], known: Sequence[str]) -> list[str]:
    """Problems with a list-valued option."""
    expected = ", ".join(known)
    if not values:
        return [f"{key}: choose at least one of {expected}"]
    return [f"{key}: unknown {value!r}, expected {expected}" for value in values if value not in known]


def _below(key: str, value: object, least: int) -> list[str]:
    """Problems with a whole number."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
        return []
    return [f"{key} must be a whole number of at least {least}, not {value}"]
