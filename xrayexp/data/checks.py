"""What data=padchest needs: PadChest's folder with its label file and its images."""

from __future__ import annotations

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


def _holds(root: Path, ending: str) -> bool:
    """Whether a file of this kind lies in the folder or in one of its subfolders."""
    return any(True for pattern in (f"*{ending}", f"*/*{ending}") for _ in root.glob(pattern))
