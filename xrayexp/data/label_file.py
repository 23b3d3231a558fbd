"""PadChest's label file: found, read as text, checked, parsed, and kept parsed for the next run.

What is kept is a parquet file in the cache folder. It belongs to one label file of one size and time of change,
and is made again when that changes. It holds what PadChest's licence forbids to share, as the label file does.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd

from xrayexp.data import table as columns
from xrayexp.data.examples import parse_rows, read_findings
from xrayexp.data.labels import STATUSES, parse_labels
from xrayexp.data.report import Finding
from xrayexp.data.splits import split_groups
from xrayexp.errors import DataError
from xrayexp.replacing import replaced

log = logging.getLogger(__name__)

LABEL_FILES = tuple(f"PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv{ending}" for ending in ("", ".gz"))
TEXT_COLUMNS = (
    columns.IMAGE,
    columns.FOLDER,
    columns.PATIENT,
    columns.STUDY,
    columns.REPORT,
    columns.DATE,
    columns.BIRTH,
    columns.PEDIATRIC,
    columns.PROJECTION,
    columns.METHOD,
    columns.LABELS,
    columns.SENTENCES,
)

# What stands in `columns.STATUS`.
UNLABELLED, EXCLUDED, SUBOPTIMAL, UNCHANGED, USABLE = "unlabelled", "excluded", "suboptimal", "unchanged", "usable"

KEPT_FORMAT = "2"  # to be raised when what is kept changes its form or the parser its result

# No separators and no "..": a name in the label file can never point outside the root folder.
_PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


class NoLabelFile(DataError):
    """A folder is there, but no label file in it."""


def find_label_file(folder: Path) -> Path:
    """The label file in PadChest's root folder.

    Raises:
        NoLabelFile: there is none; names the file names looked for.
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"PadChest folder {folder}: no such folder (data.root).")
    found = [folder / name for name in LABEL_FILES if (folder / name).is_file()]
    if not found:
        raise NoLabelFile(f"PadChest folder {folder} holds no label file: expected {' or '.join(LABEL_FILES)}.")
    return found[0]


def read_label_file(path: Path) -> pd.DataFrame:
    """Read `TEXT_COLUMNS` of PadChest's label file as text: its PatientIDs have more digits than any number type.

    Raises:
        DataError: the file is broken, lacks columns, repeats an ImageID, lacks an identifier or names a file that
            would lie outside the folder.
    """
    try:
        header = pd.read_csv(path, nrows=0)
        if len(header.columns) == 1:
            raise DataError(f"{path}: has a single column; PadChest's label file is delimited by commas.")
        columns.require_columns(header, TEXT_COLUMNS, where=str(path))
        table = pd.read_csv(path, dtype=str, usecols=list(TEXT_COLUMNS))[list(TEXT_COLUMNS)]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is no UTF-8 text ({error}): save it as such; if it is compressed, name it {LABEL_FILES[1]}."
        ) from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a label file ({error}).") from error
    for column in (columns.IMAGE, columns.FOLDER, columns.PATIENT, columns.STUDY):
        if (missing := int(table[column].isna().sum())) > 0:
            raise DataError(f"{path}: {missing} rows have no {column}.")
    repeated = table[columns.IMAGE][table[columns.IMAGE].duplicated()].unique().tolist()
    if repeated:
        raise DataError(f"{path}: {len(repeated)} ImageIDs are repeated: {columns.listed(repeated)}.")
    for column in (columns.IMAGE, columns.FOLDER):
        odd = [name for name in table[column].unique() if not _PLAIN_NAME.fullmatch(name)]
        if odd:
            shown = columns.listed([repr(name) for name in odd])
            raise DataError(
                f"{path}: {len(odd)} values of {column} are no plain names and might lead out of the folder: {shown}."
            )
    return table


def read_labels(path: Path, cache_dir: Path | None) -> pd.DataFrame:
    """The label file as a table of what can be said of every row, in the file's order.

    Args:
        path: the label file.
        cache_dir: where the parsed table is kept; None to parse anew.

    Returns:
        The identifiers, `Projection`, `MethodLabel` and `Pediatric` as text, `AGE`, `STATUS`, `FINDINGS`, `GROUP`.

    Raises:
        DataError: as `read_label_file`, or a row's labels cannot be parsed; names the image.
    """
    kept = _kept_file(path, cache_dir) if cache_dir is not None else None
    if kept is not None and kept.exists():
        try:
            return _unpack(_read_parquet(kept))
        except (OSError, ValueError) as error:  # written when the power was cut, for example
            log.warning("%s cannot be read and is made again (%s)", kept, error)
    text = read_label_file(path)
    try:
        table = _parse(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if kept is not None:
        _keep(table, kept)
    return table


def _parse(text: pd.DataFrame) -> pd.DataFrame:
    table = text.drop(columns=[columns.LABELS, columns.SENTENCES, columns.DATE, columns.BIRTH])
    years = pd.to_numeric(text[columns.DATE].str[:4], errors="coerce")
    table[columns.AGE] = years - pd.to_numeric(text[columns.BIRTH], errors="coerce")
    table[columns.STATUS] = pd.Categorical(parse_rows(text, [columns.LABELS], _status))
    table[columns.FINDINGS] = read_findings(text)
    table[columns.GROUP] = split_groups(text)
    return table


def _status(labels: object) -> str:
    """Whether a row can be reported at all. `Labels` decides, not the sentences.

    A report with one sentence that was excluded still has its other findings; 'unchanged' alone cannot be said
    without the image before.
    """
    stated = frozenset(parse_labels(labels)) if isinstance(labels, str) else frozenset()
    if not stated:
        return UNLABELLED
    if "exclude" in stated:
        return EXCLUDED
    if "suboptimal study" in stated:
        return SUBOPTIMAL
    return USABLE if stated - STATUSES else UNCHANGED


def _kept_file(path: Path, cache_dir: Path) -> Path:
    """The parsed table's file: its name changes with the label file's place, size and time of change."""
    about = path.stat()
    identity = json.dumps([KEPT_FORMAT, str(path.resolve()), about.st_size, about.st_mtime_ns])
    return cache_dir / f"padchest-labels-{blake2b(identity.encode(), digest_size=8).hexdigest()}.parquet"


def _keep(table: pd.DataFrame, path: Path) -> None:
    """Keeps the table if there is room for it."""
    reports = table[columns.FINDINGS]
    codes, distinct = pd.factorize(pd.Series(reports.to_list(), dtype=object))
    texts = ["\n".join(json.dumps([f.name, *f.locations]) for f in findings) for findings in distinct]
    packed = table.assign(**{columns.FINDINGS: pd.Categorical.from_codes(codes, pd.Index(texts))})
    try:
        with replaced(path) as temporary:
            packed.to_parquet(temporary, index=False, compression="zstd")
    except OSError as error:
        log.warning("the parsed label file could not be kept for the next run (%s): set data.cache_dir", error)


def _read_parquet(path: Path) -> pd.DataFrame:
    """As `pandas.read_parquet`, in half the time: no threads and no search for a data set of several files."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        table: pd.DataFrame = file.read(use_threads=False).to_pandas()
    return table


def _unpack(packed: pd.DataFrame) -> pd.DataFrame:
    column = packed[columns.FINDINGS].cat
    made = cache(_finding)  # reports share their findings
    distinct = np.empty(len(column.categories) + 1, dtype=object)
    for number, text in enumerate(column.categories):
        distinct[number] = tuple(map(made, text.splitlines()))
    return packed.assign(**{columns.FINDINGS: distinct[column.codes.to_numpy()]})


def _finding(text: str) -> Finding:
    name, *places = json.loads(text)
    return Finding(name, tuple(places))
