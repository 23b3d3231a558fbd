"""What a data set needs: its folder with its label files, and for PadChest its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xrayexp.checks import Check
from xrayexp.errors import DataError

PADCHEST_PAGE = "https://bimcv.cipf.es/bimcv-projects/padchest/"


def padchest_folder(root: str | None) -> Check:
    """Whether PadChest lies in `root` as it was downloaded and unpacked.

    Args:
        root: the value of data.root, by default that of the environment variable PADCHEST_DIR.
    """
    from xrayexp.data.files import ENDINGS
    from xrayexp.data.label_file import find_label_file

    name = "PadChest folder"
    where = "set PADCHEST_DIR or data.root=FOLDER"
    if not root:
        return Check(name, "missing", "no folder given", f"{where}; PadChest is requested at {PADCHEST_PAGE}")
    folder = Path(root).expanduser()
    try:
        label_file = find_label_file(folder)
    except DataError as error:
        return Check(name, "missing", str(error), f"{where}; the files come from {PADCHEST_PAGE}")
    if any(_holds(folder, ending) for ending in ENDINGS):
        return Check(name, "ok", f"{label_file.name} and images in {root}")
    if _holds(folder, ".zip"):
        return Check(name, "missing", f"the images in {root} are still in their archives", "unzip them there")
    return Check(name, "missing", f"{root} has the label file, but no image", f"get them at {PADCHEST_PAGE}")


def test_set_folder(root: str | None, title: str, files: Sequence[Sequence[str]], link: str) -> Check:
    """Whether the label files of a test set are in its folder.

    Args:
        root: the value of data.root.
        title: of the data set.
        files: names, or patterns, of which one each must be there.
        link: where the files come from.
    """
    name = f"{title} folder"
    if not root:
        return Check(name, "missing", "no folder given", f"set data_root=FOLDER (data.root of train.py); from {link}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        return Check(name, "missing", f"{root}: no such folder", f"the files come from {link}")
    lacking = [names for names in files if not any(any(True for _ in folder.glob(pattern)) for pattern in names)]
    if lacking:
        missing = "; ".join(" or ".join(names) for names in lacking)
        return Check(name, "missing", f"{root} lacks {missing}", f"get it at {link}")
    return Check(name, "ok", f"label files in {root}")


def _holds(root: Path, ending: str) -> bool:
    """Whether a file of this kind lies in the folder or in one of its subfolders."""
    return any(True for pattern in (f"*{ending}", f"*/*{ending}") for _ in root.glob(pattern))
