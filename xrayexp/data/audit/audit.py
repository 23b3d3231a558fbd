"""Looks at a data set before anything is trained on it: its rows, its labels, its splits and every image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from xrayexp.data import table as columns
from xrayexp.data.audit.examine import examine_images
from xrayexp.data.audit.faults import BROKEN, ImageFindings, image_findings
from xrayexp.data.audit.labels import LabelStatistics, label_statistics
from xrayexp.data.files import ImageFiles
from xrayexp.data.image_index import ImageIndex
from xrayexp.data.partition import UNUSED, partition
from xrayexp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xrayexp.data.config import DataSection
    from xrayexp.data.examples import Source

EVERYTHING = "all"  # the split of images that no splits were made of
ENDINGS = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".bmp")


@runtime_checkable
class HasFiles(Protocol):
    """A source whose images are files."""

    def files(self, image_ids: Sequence[str]) -> ImageFiles:
        """Where these images lie."""
        ...


@runtime_checkable
class HasFunnel(Protocol):
    """A source that selects rows in steps."""

    @property
    def funnel(self) -> list[tuple[str, int]]:
        """The steps, and how many rows each left."""
        ...


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        name: of the data set.
        most: the share of a split's images that may be broken.
        funnel: steps of the selection, and how many rows each left.
        labels: None without a label file.
        splits: number of images by split; those that no split takes are `UNUSED`.
        images: None where there are no files to look at.
        problems: why a training could not begin, beside too many broken images.
        notes: what else a reader should know.
    """

    name: str
    most: float
    funnel: list[tuple[str, int]] = field(default_factory=list)
    labels: LabelStatistics | None = None
    splits: dict[str, int] = field(default_factory=dict)
    images: ImageFindings | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def broken(self, split: str) -> int:
        """The images of a split that training would leave out."""
        return 0 if self.images is None else sum(self.images.count(kind, split) for kind in BROKEN)

    def obstacles(self) -> list[str]:
        """Why a training could not begin, one sentence each."""
        broken = []
        for name, size in self.splits.items():
            if name != UNUSED and self.broken(name) > self.most * size:
                where = "images" if name == EVERYTHING else f"images of the {name} split"
                broken.append(
                    f"{self.broken(name):,} of {size:,} {where} are missing or broken, more than "
                    f"data.max_broken_fraction={self.most:g} of them"
                )
        return [*self.problems, *broken]

    @property
    def fine(self) -> bool:
        """Whether a training could begin."""
        return not self.obstacles()


def audit(section: DataSection, source: Source, workers: int) -> Audit:
    """Looks at a data set.

    Args:
        section: the data config.
        source: the data set.
        workers: processes that read images.

    Raises:
        UserError: the label file cannot be used, or another check of the same folder is under way.
    """
    table = source.table()
    if table.empty:
        raise DataError(f"data={section.name} has no usable image")
    funnel = source.funnel if isinstance(source, HasFunnel) else [("images", len(table))]
    problems: list[str] = []
    names = table[columns.IMAGE].astype(str).tolist()
    try:
        parts = partition(section, source, None)
        split_of = dict(zip(parts.rows[columns.IMAGE], parts.rows["split"], strict=True))
        counts = parts.rows["split"].value_counts(sort=False)
        splits = {str(name): int(count) for name, count in counts.items()}
    except DataError as error:
        problems.append(str(error))
        split_of, splits = dict.fromkeys(names, EVERYTHING), {EVERYTHING: len(names)}
    notes: list[str] = []
    images = None
    if not isinstance(source, HasFiles):
        notes.append(f"data={section.name} draws its images: there are no files to look at")
    else:
        files = source.files(names)
        if not files.found:
            notes.append(f"none of the {len(names):,} images is in {files.root} yet: these are the labels alone")
        index = ImageIndex(Path(section.cache_dir).expanduser(), files.root)
        images = image_findings(files, examine_images(index, files, workers), split_of)
        notes += _on_duplicates(images)
    return Audit(
        section.name, section.max_broken_fraction, funnel, label_statistics(table), splits, images, problems, notes
    )


def audit_folder(section: DataSection, root: Path, workers: int) -> Audit:
    """Looks at the images of a folder without labels.

    Args:
        section: the data config.
        root: the folder; images lie in it or anywhere below.
        workers: processes that read images.

    Raises:
        DataError: there is no image.
        UserError: another check of the same folder is under way.
    """
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not paths:
        raise DataError(f"{root}: holds neither a label file nor an image")
    inside = root.resolve()
    names = {path: path.relative_to(root).as_posix() for path in paths}
    found = {name: name for path, name in names.items() if path.resolve().is_relative_to(inside)}
    absent = {name: f"{path}: a link leads out of {root}" for path, name in names.items() if name not in found}
    files = ImageFiles(root, found, absent, section.max_megapixels)
    index = ImageIndex(Path(section.cache_dir).expanduser(), root)
    split_of = dict.fromkeys(names.values(), EVERYTHING)
    images = image_findings(files, examine_images(index, files, workers), split_of)
    note = f"{root} holds no label file: these are its images alone, and nothing can be trained on them"
    return Audit(
        section.name,
        section.max_broken_fraction,
        splits={EVERYTHING: len(names)},
        images=images,
        notes=[note, *_on_duplicates(images)],
    )


def _on_duplicates(images: ImageFindings) -> list[str]:
    if not images.crossing:
        return []
    return [
        f"{images.crossing:,} groups of identical images lie in more than one split: "
        "their patients are not known to be the same"
    ]
