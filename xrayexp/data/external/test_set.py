"""What the readers of test sets share: rows, image files, boxes in pixels, and the labels' vocabulary."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from xrayexp.data import table as columns
from xrayexp.data.boxes import Convention, FindingBox, ImageBoxes, TrueBoxes
from xrayexp.data.files import file_version
from xrayexp.data.images import image_shape, read_image
from xrayexp.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xrayexp.data.report import Finding
    from xrayexp.data.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_BEYOND = 2.0  # pixels that a box may lie beyond the image, as in VinDr-CXR


@dataclass(frozen=True, slots=True)
class Marks:
    """The readers' boxes of an image as their file has them.

    Attributes:
        names: the finding of each box.
        values: four numbers each.
        unboxed: findings that are true and have no box.
    """

    names: tuple[str, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()
    unboxed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image of a test set.

    Attributes:
        image_id: unique in the set.
        patient_id: what the bootstrap resamples.
        study_id: of the patient.
        findings: at least one.
        places: where the file may lie below the root folder, the first choice first.
        marks: None where nobody drew boxes.
        unknown: names of labels that are uncertain.
        text: the radiologist's report; None where there is none.
    """

    image_id: str
    patient_id: str
    study_id: str
    findings: tuple[Finding, ...]
    places: tuple[str, ...]
    marks: Marks | None = None
    unknown: frozenset[str] = frozenset()
    text: str | None = None


class TestSet(ABC):
    """A test set as a source of examples.

    Args:
        root: the folder with its files; None is reported when data is asked for.
        max_megapixels: larger images are refused; None for no limit.
    """

    __test__ = False  # for pytest, which would collect it by its name
    title: ClassVar[str]
    page: ClassVar[str]
    method: ClassVar[str]  # who labelled it
    convention: ClassVar[Convention | None] = None  # of the boxes, where there are any

    def __init__(self, root: str | None, max_megapixels: float | None = None) -> None:
        self.root, self.max_megapixels = root, max_megapixels

    @abstractmethod
    def read(self) -> Iterable[LabelledImage]:
        """The images that can be scored.

        Raises:
            DataError: a file is missing or broken.
        """

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What its labels can state; None where these are PadChest's."""
        return None

    @property
    def folder(self) -> Path:
        """The root folder.

        Raises:
            DataError: none is given, or there is no such folder.
        """
        if self.root is None:
            raise DataError(f"No folder of {self.title}: set data.root (data_root of evaluate.py); from {self.page}.")
        folder = Path(self.root).expanduser()
        if not folder.is_dir():
            raise DataError(f"{self.title}: no folder {folder}; its files come from {self.page}.")
        return folder

    def file(self, *names: str) -> Path:
        """The first of these files that is in the root folder.

        Raises:
            DataError: none is.
        """
        found = next((self.folder / name for name in names if (self.folder / name).is_file()), None)
        if found is None:
            raise DataError(f"{self.title}: {self.folder} lacks {' or '.join(names)}; it comes from {self.page}.")
        return found

    def table(self) -> pd.DataFrame:
        """One row per image, with the columns of `xrayexp.data.table` that splits and examples need."""
        rows = self._images.values()
        if not rows:
            raise DataError(f"{self.title}: {self.folder} holds labels, but of no image that can be scored.")
        return pd.DataFrame(
            {
                columns.IMAGE: [row.image_id for row in rows],
                columns.PATIENT: [row.patient_id for row in rows],
                columns.STUDY: [row.study_id for row in rows],
                columns.REPORT: [row.study_id for row in rows],
                columns.METHOD: self.method,
                columns.FINDINGS: pd.Series([row.findings for row in rows], dtype=object),
                columns.UNKNOWN: pd.Series([row.unknown for row in rows], dtype=object),
                columns.TEXT: pd.Series([row.text for row in rows], dtype=object),
            }
        )

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image, [height, width].

        Raises:
            DataError: there is no such image, or its file is missing, broken or too large.
        """
        return read_image(self._path(image_id), self.max_megapixels)

    @property
    def origin(self) -> str:
        """The root folder, wherever it is named from."""
        return str(self.folder.resolve())

    def version(self, image_id: str) -> str:
        """By the file's size and time."""
        return file_version(self._path(image_id))

    def absent(self, image_ids: Sequence[str]) -> dict[str, str]:
        """Images without a file."""
        found = {}
        for image_id in image_ids:
            try:
                self._path(image_id)
            except DataError as error:
                found[image_id] = str(error)
        return found

    def shape(self, image_id: str) -> tuple[int, int]:
        """Height and width of the image file, in pixels, read from its header."""
        return image_shape(self._path(image_id))

    def boxes(self, image_id: str) -> TrueBoxes | None:
        """The readers' boxes in the file's pixels; None where nobody drew any.

        Raises:
            DataError: they lie outside of the image: the file was resized since they were drawn.
        """
        marks = self._row(image_id).marks
        if marks is None or self.convention is None:
            return None
        shape = self.shape(image_id)
        boxes = ImageBoxes.of(marks.values, self.convention, shape)
        beyond = (boxes.pixels > np.array([*shape, *shape]) + _BEYOND) | (boxes.pixels < -_BEYOND)
        if beyond.any():
            raise DataError(
                f"{self.title}: boxes of image {image_id} lie outside of its {shape[0]} x {shape[1]} pixels: boxes "
                "need the images in their original size."
            )
        inside, kept = boxes.clipped()
        found = [FindingBox(marks.names[i], tuple(box)) for i, box in zip(kept, inside.values.tolist(), strict=True)]
        return TrueBoxes(tuple(found), marks.unboxed)

    def _row(self, image_id: str) -> LabelledImage:
        if image_id not in self._images:
            raise DataError(f"{self.title} has no image {image_id}.")
        return self._images[image_id]

    def _path(self, image_id: str) -> Path:
        row, inside = self._row(image_id), self.folder.resolve()
        paths = [self.folder / place for place in row.places]
        # A name in a label file, or a link, may lead out of the folder.
        found = next((path for path in paths if path.is_file() and path.resolve().is_relative_to(inside)), None)
        if found is None:
            raise DataError(f"{paths[0]}: no such file")
        return found

    @cached_property
    def _images(self) -> dict[str, LabelledImage]:
        return {row.image_id: row for row in self.read()}


def read_csv(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    """Columns of a CSV as text, missing cells as ''.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a CSV ({error})") from error
    columns.require_columns(table, wanted, where=str(path))
    return table


def number(text: str, where: str) -> float:
    """A finite number.

    Raises:
        DataError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{where}: '{text}' is no number.")
    return value
