"""Splits that no patient, study or report crosses.

PatientID alone is not enough in PadChest: some 1,200 reports appear under two PatientIDs (same date,
birth year and sex). So rows are grouped into connected components over PatientID, StudyID and ReportID.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from itertools import accumulate

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xrayexp.data import table as columns
from xrayexp.errors import ConfigError, DataError

_LINKS = (columns.PATIENT, columns.STUDY, columns.REPORT)


def assign_splits(table: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> pd.Series[str]:
    """Assign every row to a split, so that no patient, study or report is in two.

    A group's split is a keyed hash of its smallest PatientID. So it depends neither on the order of rows
    nor on other groups: rows may be added, and only groups that they join or extend can move. Shares are
    those of groups, in expectation: with few patients, a split may be far off, or empty.

    Args:
        table: PadChest's columns PatientID (never missing), StudyID and ReportID (links where present).
        fractions: share of each split, adding up to 1. Their order matters: it places the boundaries.
        seed: another seed, another split.

    Returns:
        The split of each row, with the table's index, named "split".

    Raises:
        ConfigError: the fractions are not shares of a whole.
        DataError: a column is missing, or a row has no PatientID.
    """
    _check_fractions(fractions)
    columns.require_columns(table, _LINKS)
    if (missing := int(table[columns.PATIENT].isna().sum())) > 0:
        raise DataError(f"{missing} rows have no {columns.PATIENT}: they cannot be kept apart from others.")
    patients = table[columns.PATIENT].astype(str).reset_index(drop=True)
    smallest = patients.groupby(_components(table)).transform("min")
    split_of = {patient: _draw(patient, fractions, seed) for patient in smallest.unique()}
    splits = [split_of[patient] for patient in smallest]
    return pd.Series(splits, index=table.index, name="split", dtype="str")


def check_no_leakage(table: pd.DataFrame, split: pd.Series[str]) -> None:
    """Raise DataError naming the patients, studies and reports that are in more than one split."""
    columns.require_columns(table, _LINKS)
    if not split.index.equals(table.index):
        raise DataError("The splits belong to another table: their rows differ.")
    problems = []
    for column in _LINKS:
        counts = split.groupby(table[column]).nunique()
        if crossing := counts.index[counts > 1].tolist():
            examples = columns.listed(crossing)
            problems.append(f"{len(crossing)} {column} values are in more than one split: {examples}")
    if problems:
        raise DataError("\n".join(problems))


def _components(table: pd.DataFrame) -> NDArray[np.int32]:
    """Component number of each row, [rows]: rows that share a value of any link column are connected."""
    rows = np.arange(len(table))
    starts, ends, nodes = [], [], len(table)
    for column in _LINKS:
        codes, values = pd.factorize(table[column])
        known = codes >= 0  # a missing value links nothing
        starts.append(rows[known])
        ends.append(codes[known] + nodes)
        nodes += len(values)
    edges = (np.concatenate(starts), np.concatenate(ends))
    graph = coo_array((np.ones(len(edges[0]), dtype=bool), edges), shape=(nodes, nodes))
    component: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return component[: len(table)]


def _draw(patient: str, fractions: Mapping[str, float], seed: int) -> str:
    """The split in whose share the patient's hash falls."""
    digest = blake2b(patient.encode(), key=str(seed).encode(), digest_size=8).digest()
    position = (int.from_bytes(digest, "big") >> 11) / 2**53  # uniform in [0, 1), exact in a float
    names = [name for name, fraction in fractions.items() if fraction > 0]
    ends = accumulate(fractions[name] for name in names[:-1])  # the last split ends at 1, whatever the rounding
    return next((name for name, end in zip(names, ends, strict=False) if position < end), names[-1])


def _check_fractions(fractions: Mapping[str, float]) -> None:
    problems = [
        f"split share {name}={fraction}: must lie between 0 and 1"
        for name, fraction in fractions.items()
        if not 0 <= fraction <= 1
    ]
    if not problems and not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        problems.append(f"split shares add up to {sum(fractions.values()):g}: they must add up to 1")
    if problems:
        raise ConfigError(problems)
