"""Parses PadChest's label file from cold and from the index that is kept of it, and measures time and memory.

XRAYEXP_PADCHEST_LABELS=FOLDER python experiments/padchest_parse/run.py

--quick takes the sample of 100 invented rows, and needs no label file.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from experiments.results import Claim, Row, Rows, Values, table
from experiments.study import ROOT, Place, Study, main
from xrayexp.errors import UserError

FOLDER = "XRAYEXP_PADCHEST_LABELS"
SAMPLE = ROOT / "docs" / "padchest_sample.csv"
ROUNDS = 5
GIB = 2**30 if sys.platform == "darwin" else 2**20  # the unit of `ru_maxrss` in it


def plan(quick: bool) -> list[Row]:
    """Each row parses the file once and reads the index once."""
    return [
        Row(f"round {number}", {"file": "sample" if quick else "PadChest"}) for number in range(1 if quick else ROUNDS)
    ]


def compute(row: Row, place: Place) -> Values:
    """What either way takes, each in a process of its own.

    Raises:
        UserError: the label file is not there.
    """
    path, cache = label_file(row.settings["file"]), place.work / row.key
    shutil.rmtree(cache, ignore_errors=True)
    values = {}
    for way in ("parse", "index"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            values[way] = process.submit(read, path, cache).result()
    return values


def label_file(name: str) -> Path:
    """The file to read.

    Raises:
        UserError: it is not there.
    """
    from xrayexp.data.label_file import find_label_file

    if name == "sample":
        return SAMPLE
    if FOLDER not in os.environ:
        raise UserError(
            f"{FOLDER} names no folder with PadChest's label file; the wheel that `pip download --no-deps "
            "torchxrayvision==1.5.7` gets holds it"
        )
    return find_label_file(Path(os.environ[FOLDER]))


def read(path: Path, cache: Path) -> Values:
    """Reads the labels once in this process.

    Returns:
        `rows`; `cpu` and `wall` seconds of reading; `imports`, CPU seconds of what came before, pandas above all; and
        `memory`, the peak of the process in GiB.
    """
    from xrayexp.data.label_file import read_labels

    imports, start = time.process_time(), time.monotonic()
    rows = len(read_labels(path, cache))
    cpu, wall = time.process_time() - imports, time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    return {"rows": rows, "cpu": cpu, "wall": wall, "imports": imports, "memory": peak}


def claims(rows: Rows) -> list[Claim]:
    """The least of the rounds for time, since whatever else a machine does only adds to it; the most for memory."""
    parse, index = ([values[way] for values in rows.values()] for way in ("parse", "index"))
    cold = min(values["cpu"] + values["imports"] for values in parse)
    return [
        Claim("CPU seconds of a parse from cold, imports included", cold, 8, "at most"),
        Claim("peak memory of the process, GiB", max(values["memory"] for values in parse), 1.5, "at most"),
        Claim("CPU seconds from the index", min(values["cpu"] for values in index), 0.5, "at most"),
    ]


def blocks(rows: Rows) -> dict[str, str]:
    """Every round."""
    lines = [
        [
            key,
            *(
                f"{values[way][name]:.2f}"
                for way in ("parse", "index")
                for name in ("cpu", "wall", "imports", "memory")
            ),
        ]
        for key, values in rows.items()
    ]
    header = [f"{way}: {name}" for way in ("parse", "index") for name in ("CPU s", "wall s", "imports, CPU s", "GiB")]
    return {"rounds": table(["", *header], lines)}


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks)

if __name__ == "__main__":
    main(STUDY)
