"""VinDr-CXR (Nguyen et al. 2022, arXiv 2012.15029): 18,000 DICOM files with boxes of 14 findings.

Each training image was read by three radiologists, whose boxes are merged, see `xrayexp.data.external.readers`. The
test images come with the consensus of five: their file names no reader, and is taken as it is.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence

from xrayexp.data.boxes import PIXELS
from xrayexp.data.external.readers import fuse, majority
from xrayexp.data.external.test_set import LabelledImage, Marks, TestSet, number, read_csv
from xrayexp.data.report import NORMAL, Finding
from xrayexp.data.vocabulary import Vocabulary
from xrayexp.errors import ConfigError

log = logging.getLogger(__name__)

LABEL_FILES = (
    "train.csv", "vinbigdata-train.csv", "vinbigdata-train.csv.gz", "annotations/annotations_train.csv",
    "annotations_train.csv",
)  # fmt: skip
TEST_FILES = ("annotations/annotations_test.csv", "annotations_test.csv")
ENDINGS = (".dicom", ".dcm", ".png", ".jpg", "")
FOLDERS = ("train/", "test/", "")
NO_FINDING = "No finding"

Row = tuple[str, str, str, str, str, str, str]


class VinDrSource(TestSet):
    """VinDr-CXR in one folder: the label file, and the images beside it, in `train` or in `test`.

    An image is left out when its readers agree on nothing, neither on a finding nor on there being none, or only on
    a label that has no name here.

    Args:
        root: the folder.
        labels: `train`, three readers each, or `test`, the consensus of five.
        max_megapixels: larger images are refused.
    """

    title = "VinDr-CXR"
    page = "https://physionet.org/content/vindr-cxr/ (or Kaggle's vinbigdata-chest-xray-abnormalities-detection)"
    method = "radiologists"
    convention = PIXELS

    def __init__(self, root: str | None, labels: str = "train", max_megapixels: float | None = None) -> None:
        super().__init__(root, max_megapixels)
        if labels not in ("train", "test"):
            raise ConfigError([f"data.source.labels must be train or test, not '{labels}'"])
        self.labels = labels

    @property
    def vocabulary(self) -> Vocabulary:
        """Its 14 findings and 'No finding'."""
        return Vocabulary.of("vindr")

    def read(self) -> Iterator[LabelledImage]:
        """One row per image whose readers agree on something."""
        path = self.file(*(LABEL_FILES if self.labels == "train" else TEST_FILES))
        wanted = ["image_id", "class_name", "x_min", "y_min", "x_max", "y_max"]
        table = read_csv(path, wanted)
        if "rad_id" not in table:
            table["rad_id"] = "consensus"
        rows: dict[str, list[Row]] = defaultdict(list)
        for row in table[["image_id", "rad_id", *wanted[1:]]].itertuples(index=False, name=None):
            rows[row[0]].append(row)
        vocabulary, left_out = self.vocabulary, 0
        for image_id, marked in rows.items():
            findings, marks = _agreed(marked, vocabulary, f"{path}, image {image_id}")
            if not findings:
                left_out += 1
                continue
            places = tuple(f"{folder}{image_id}{ending}" for folder in FOLDERS for ending in ENDINGS)
            # There is no patient in the files: an image stands for one.
            yield LabelledImage(image_id, image_id, image_id, findings, places, marks)
        if left_out:
            log.info("VinDr-CXR: %s of %s images are left out: the readers agree on nothing", left_out, len(rows))


def _agreed(rows: Sequence[Row], vocabulary: Vocabulary, where: str) -> tuple[tuple[Finding, ...], Marks]:
    """Findings and boxes that more than half of an image's readers mark; no finding where they agree on nothing."""
    least = majority(len({row[1] for row in rows}))
    boxes: dict[str, dict[str, list[tuple[float, ...]]]] = defaultdict(lambda: defaultdict(list))
    for _, reader, label, x0, y0, x1, y1 in rows:
        name = vocabulary.named(label, where)
        if name is None:
            continue
        drawn = boxes[name][reader]
        if label != NO_FINDING and x0:
            left, top, right, bottom = (number(text, where) for text in (x0, y0, x1, y1))
            drawn.append((top, left, bottom, right))
    true = [name for name, readers in boxes.items() if len(readers) >= least]
    if NORMAL in true:
        return (Finding(NORMAL),), Marks()
    fused = {name: fuse(boxes[name], least) for name in sorted(true)}
    marks = Marks(
        names=tuple(name for name, agreed in fused.items() for _ in agreed),
        values=tuple(tuple(box) for agreed in fused.values() for box in agreed.tolist()),
        unboxed=frozenset(name for name, agreed in fused.items() if not len(agreed)),
    )
    return tuple(Finding(name) for name in fused), marks
