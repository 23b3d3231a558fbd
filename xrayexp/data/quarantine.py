"""Images that could not be read: left out, named once, counted, and fatal when there are too many."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xrayexp.errors import DataError

if TYPE_CHECKING:
    from xrayexp.data.collate import BrokenImage

log = logging.getLogger(__name__)

QUARANTINE = "quarantine.csv"  # name of the list, in a run or an evaluation
NAMED = 5  # images that are named in the log when many come at once
HEADER = ("image_id", "split", "reason")


class Quarantine:
    """The broken images of a run.

    Args:
        sizes: number of images of each split.
        most: the share of a split that may be broken.
        file: a CSV where they are listed, of an earlier part of the run perhaps; None to keep no list.
    """

    def __init__(self, sizes: Mapping[str, int], most: float, file: Path | None = None) -> None:
        self.sizes, self.most, self.file = sizes, most, file
        self.broken: dict[tuple[str, str], str] = {}  # (split, ImageID) -> reason
        if file is not None and file.exists():
            with file.open(encoding="utf-8", newline="") as lines:
                self.broken = {(row["split"], row["image_id"]): row["reason"] for row in csv.DictReader(lines)}

    def __len__(self) -> int:
        return len(self.broken)

    def count(self, split: str) -> int:
        """The broken images of one split."""
        return sum(broken == split for broken, _ in self.broken)

    def add(self, split: str, images: Iterable[BrokenImage]) -> None:
        """Notes broken images.

        Raises:
            DataError: when more than `most` of a split is broken.
        """
        new = [image for image in images if (split, image.image_id) not in self.broken]
        for image in new:
            self.broken[split, image.image_id] = image.reason
            self._write(image.image_id, split, image.reason)
        for image in new[:NAMED]:
            log.warning("left out of %s: %s", split, image.reason)
        if len(new) > NAMED:
            log.warning("left out of %s: %s more images like these", split, f"{len(new) - NAMED:,}")
        if new and (count := self.count(split)) > self.most * self.sizes[split]:
            raise DataError(
                f"{count:,} of {self.sizes[split]:,} images of the {split} split cannot be read, more than "
                f"data.max_broken_fraction={self.most:g} of them; one of them: {new[0].reason}. "
                "`xrayexp data check` looks at all images."
            )

    def _write(self, *row: str) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = not self.file.exists()
        with self.file.open("a", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines)
            if new:
                writer.writerow(HEADER)
            writer.writerow(row)
