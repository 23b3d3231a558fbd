"""The page: complete, safe to open, and in need of nothing."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from xrayexp.data.audit.audit import Audit
from xrayexp.data.audit.examine import examine_images
from xrayexp.data.audit.faults import image_findings
from xrayexp.data.audit.labels import label_statistics
from xrayexp.data.audit.page import MOST_ROWS, page, write_page
from xrayexp.data.audit.terminal import print_audit
from xrayexp.data.files import ImageFiles
from xrayexp.data.image_index import ImageIndex
from xrayexp.data.report import Finding

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def found(tmp_path: Path) -> Audit:
    """Two rows with odd names, 300 missing images, one constant and one suspect."""
    root = tmp_path / "images"
    root.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, size=(40, 40)).astype(np.uint8)).save(root / "noise.png")
    Image.new("L", (40, 40)).save(root / "flat.png")
    absent = {f"{EVIL}{number}": f"{EVIL}: no such file" for number in range(300)}
    files = ImageFiles(root, {"<i>noise": "noise.png", "flat": "flat.png"}, absent)
    index = examine_images(ImageIndex(tmp_path / "cache", root), files, 1)
    split_of = dict.fromkeys([*files.found, *absent], "train")
    table = pd.DataFrame(
        {
            "ImageID": ["a", "b"],
            "PatientID": ["p", "q"],
            "StudyID": ["s", "t"],
            "Projection": ["PA", "<b>L"],
            "MethodLabel": ["Physician", "Physician"],
            "findings": [(Finding("nodule<&>"), Finding("mass")), (Finding("normal"),)],
        }
    )
    return Audit(
        f"padchest {EVIL}",
        0.01,
        [(f"rows {EVIL}", 1234567), ("kept", 302)],
        label_statistics(table),
        {"train": 302},
        image_findings(files, index, split_of),
        [f"{EVIL} is empty"],
        [f"a note {EVIL}"],
    )


class Elements(HTMLParser):
    """Counts elements, and collects what points elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.targets += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")
        ]


def test_it_needs_nothing_from_elsewhere(found: Audit) -> None:
    text = page(found)
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", re.sub(r"base64,\s*[\w+/=\s]+", "", text))
    targets = Elements(text).targets
    assert targets
    assert all(target.startswith(("#", "data:image/")) for target in targets)


def test_everything_is_escaped(found: Audit) -> None:
    text = page(found)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    names = Elements(text).names
    assert not {"i", "script", "link", "iframe"} & set(names)
    assert "nodule&lt;&amp;&gt;" in text


def test_the_numbers_are_there(found: Audit) -> None:
    text = page(found)
    for number in ("1,234,567", "-1,234,265", "<b>300</b>", "<b>1</b>"):
        assert number in text
    assert "300 missing" in text
    assert f"and {300 - MOST_ROWS} more in problems.csv" in text
    assert "301 of 302 images of the train split are missing or broken" in text
    assert Elements(text).names.count("svg") == 6  # frequencies, per image, two columns, together, images
    assert Elements(text).names.count("img") == 2
    assert "Training would stop" in text


def test_ids_are_unique(found: Audit) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page(found))
    clips = [name for name in ids if re.fullmatch(r"[pm][0-9a-f]{10}", name)]
    assert clips
    assert len(clips) == len(set(clips)), "a figure would be drawn with the clip path of another"


def test_a_page_replaces_an_older_one(found: Audit, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_page(found, path)
    write_page(found, path)
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_images_alone_and_labels_alone(found: Audit) -> None:
    assert Elements(page(Audit("a", 0.0, labels=found.labels))).names.count("svg") == 5
    assert Elements(page(Audit("a", 0.0, images=found.images))).names.count("svg") == 1


def test_the_terminal_says_the_same(found: Audit) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    print_audit(found, console)
    shown = console.export_text()
    for words in (
        "1,234,567", "1,234,265", "2 images of 2 patients", "missing: 295 more", "constant: flat", "suspect: <i>noise",
        "301 of 302 images", "a note <script>", "training would stop",
    ):  # fmt: skip
        assert words in shown
