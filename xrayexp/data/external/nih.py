"""NIH ChestX-ray14 (Wang et al. 2017): 112,120 images with labels read from reports, 880 of them with boxes.

Boxes come from BBox_List_2017.csv, whose header has six commas too many (`Bbox [x,y,w,h],,,`), so that columns are
taken by their place. Box numbers refer to the published PNGs of 1024 x 1024 pixels.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from xrayexp.data.boxes import Convention
from xrayexp.data.external.test_set import LabelledImage, Marks, TestSet, number, read_csv
from xrayexp.data.report import NORMAL, Finding
from xrayexp.data.vocabulary import Vocabulary
from xrayexp.errors import ConfigError, DataError

BOX_FILE = "BBox_List_2017.csv"
LABEL_FILES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
TEST_LIST = "test_list.txt"
IMAGE, LABELS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
FOLDERS = ("images/", "", *(f"images_{number:03d}/images/" for number in range(1, 13)))
SIDE = 1024.0

Box = tuple[float, float, float, float]


class NIHSource(TestSet):
    """NIH ChestX-ray14 in one folder: the label files, and the images in `images` or as they were unpacked.

    Args:
        root: the folder.
        images: `boxed`, those with a box, or `test`, those of test_list.txt.
        max_megapixels: larger images are refused.
    """

    title = "NIH ChestX-ray14"
    page = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
    method = "labeler"
    convention = Convention("xywh", SIDE)

    def __init__(self, root: str | None, images: str = "boxed", max_megapixels: float | None = None) -> None:
        super().__init__(root, max_megapixels)
        if images not in ("boxed", "test"):
            raise ConfigError([f"data.source.images must be boxed or test, not '{images}'"])
        self.images = images

    @property
    def vocabulary(self) -> Vocabulary:
        """Its 14 findings and 'No Finding'."""
        return Vocabulary.of("nih")

    def read(self) -> Iterator[LabelledImage]:
        """One row per image of the chosen list."""
        vocabulary, path = self.vocabulary, self.file(*LABEL_FILES)
        table = read_csv(path, [IMAGE, LABELS, PATIENT])
        boxes = read_boxes(self.file(BOX_FILE), vocabulary) if self.images == "boxed" else {}
        wanted = set(boxes) if self.images == "boxed" else set(self.file(TEST_LIST).read_text().split())
        for image_id, labels, patient in table[[IMAGE, LABELS, PATIENT]].itertuples(index=False, name=None):
            if image_id not in wanted:
                continue
            drawn = boxes.get(image_id, [])
            named = [vocabulary.named(label, f"{path}, image {image_id}") for label in labels.split("|")]
            # A few boxes hold what the reports did not say.
            true = dict.fromkeys([*(name for name in named if name), *(name for name, _ in drawn)])
            if len(true) > 1:
                true.pop(NORMAL, None)
            marks = None
            if self.images == "boxed":
                names, values = tuple(name for name, _ in drawn), tuple(box for _, box in drawn)
                marks = Marks(names, values, unboxed=frozenset(true) - set(names) - {NORMAL})
            findings = tuple(Finding(name) for name in true)
            places = tuple(f"{folder}{image_id}" for folder in FOLDERS)
            yield LabelledImage(image_id, patient, image_id, findings, places, marks)


def read_boxes(path: Path, vocabulary: Vocabulary) -> dict[str, list[tuple[str, Box]]]:
    """(finding, x, y, w, h) of every image in BBox_List_2017.csv.

    Raises:
        DataError: the file cannot be read, or a line is none of its kind.
    """
    found: dict[str, list[tuple[str, Box]]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV ({error})") from error
    for place, cells in enumerate(lines[1:], start=2):
        where = f"{path}, line {place}"
        if len(cells) < 6:
            raise DataError(f"{where}: expected image, finding, x, y, w, h.")
        name = vocabulary.named(cells[1], where)
        x, y, width, height = (number(cell, where) for cell in cells[2:6])
        if name is not None:
            found[cells[0]].append((name, (x, y, width, height)))
    return dict(found)
