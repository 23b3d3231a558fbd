"""What is wrong with the images of a data set: one line for each problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from xrayexp.data.appearance import CONSTANT, suspicions
from xrayexp.data.partition import UNUSED

if TYPE_CHECKING:
    from xrayexp.data.files import ImageFiles

MISSING, UNREADABLE, CONST, SUSPECT, DUPLICATE = "missing", "unreadable", "constant", "suspect", "duplicate"
KINDS = {
    MISSING: "no file, or a link out of the folder",
    UNREADABLE: "a file that cannot be read as an image",
    CONST: "every pixel has the same value",
    SUSPECT: "does not look like a chest X-ray",
    DUPLICATE: "the same pixels as another image",
}
BROKEN = (MISSING, UNREADABLE, CONST)  # training leaves these out
PROBLEM_COLUMNS = ("image_id", "file", "kind", "split", "reason")


@dataclass(frozen=True)
class ImageFindings:
    """What was found in image files.

    Attributes:
        images: where they lie.
        records: of the index, with `image_id`, `split` and `suspicion`.
        problems: `PROBLEM_COLUMNS`, the worst kind first.
        crossing: groups of identical images that lie in more than one split.
    """

    images: ImageFiles
    records: pd.DataFrame
    problems: pd.DataFrame
    crossing: int

    def count(self, kind: str, split: str | None = None) -> int:
        """The problems of one kind, of one split or of all."""
        chosen = self.problems[self.problems["kind"] == kind]
        return len(chosen if split is None else chosen[chosen["split"] == split])


def image_findings(images: ImageFiles, index: pd.DataFrame, split_of: dict[str, str]) -> ImageFindings:
    """Judges images.

    Args:
        images: those that were looked for.
        index: the records of those that are there.
        split_of: the split of every image.
    """
    names = {file: image_id for image_id, file in images.found.items()}
    records = index.assign(image_id=index["file"].map(names), suspicion=suspicions(index))
    records["split"] = records["image_id"].map(split_of)
    unreadable = records[records["reason"] != ""].assign(kind=UNREADABLE)
    flagged = records[records["suspicion"] != ""]
    constant = flagged["suspicion"] == CONSTANT
    flagged = flagged.assign(kind=constant.map({True: CONST, False: SUSPECT}), reason=flagged["suspicion"])
    vanished = images.found.keys() - set(records["image_id"])  # while they were looked at
    gone = dict(images.absent) | {name: f"{images.root / images.found[name]}: no such file" for name in vanished}
    missing = pd.DataFrame(
        [(name, "", MISSING, split_of[name], why) for name, why in gone.items()], columns=list(PROBLEM_COLUMNS)
    )
    twins, crossing = _duplicates(records)
    found = [part[list(PROBLEM_COLUMNS)] for part in (missing, unreadable, flagged, twins) if len(part)]
    problems = pd.concat(found) if found else missing
    order = {kind: number for number, kind in enumerate(KINDS)}
    problems = problems.sort_values("kind", key=lambda kinds: kinds.map(order), kind="stable", ignore_index=True)
    return ImageFindings(images, records, problems, crossing)


def _duplicates(records: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Every image but the first of those with the same pixels, and the number of groups in more than one split.

    Constant images are alike without being copies.
    """
    readable = records[(records["reason"] == "") & (records["low"] < records["high"])]
    first, splits = readable.groupby("digest")["image_id"].first(), readable[readable["split"] != UNUSED]
    again = readable[readable["digest"].duplicated()]
    reasons = [f"the same pixels as {first[digest]}" for digest in again["digest"]]
    crossing = int((splits.groupby("digest")["split"].nunique() > 1).sum())
    return again.assign(kind=DUPLICATE, reason=reasons), crossing
