"""Splits that no patient, study or report crosses.

PatientID alone is not enough in PadChest: some 1,200 reports appear under two PatientIDs (same date,
birth year and sex). So rows are grouped into connected components over PatientID, StudyID and ReportID.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xrayexp.data import table as columns
from xrayexp.data.config import METHODS
from xrayexp.data.stratification import stratify
from xrayexp.errors import ConfigError, DataError

HASH, STRATIFIED = METHODS

_LINKS = (columns.PATIENT, columns.STUDY, columns.REPORT)


def split_groups(table: pd.DataFrame) -> pd.Series[str]:
    """The group of every row, named by the group's smallest PatientID: groups share no patient, study or report.

    Args:
        table: PadChest's columns PatientID (never missing), StudyID and ReportID (links where present).

    Raises:
        DataError: a column is missing, or a row has no PatientID.
    """
    columns.require_columns(table, _LINKS)
    if (missing := int(table[columns.PATIENT].isna().sum())) > 0:
        raise DataError(f"{missing} rows have no {columns.PATIENT}: they cannot be kept apart from others.")
    patients = table[columns.PATIENT].astype(str)
    return patients.groupby(_components(table)).transform("min").rename(columns.GROUP)


def assign_splits(table: pd.DataFrame, fractions: Mapping[str, float], seed: int, method: str = HASH) -> pd.Series[str]:
    """Assign every row to a split, so that no patient, study or report is in two.

    By hash, a group's split is a keyed hash of its name. So it depends neither on the order of rows nor on other
    groups: rows may be added, and only groups that they join or extend can move. Shares are those of groups, in
    expectation: with few patients, a split may be far off, or empty. Stratified, every finding has its share, but
    any change of the table may move any group: see `xrayexp.data.stratification`.

    Args:
        table: what `split_groups` takes, or its result in the column `GROUP`, which may stand for more rows than
            those at hand: patients who share a report that was not selected stay together.
        fractions: share of each split, adding up to 1. Their order matters: it places the boundaries.
        seed: another seed, another split.
        method: `HASH`, or `STRATIFIED`, which needs the column `FINDINGS`.

    Returns:
        The split of each row, with the table's index, named "split".

    Raises:
        ConfigError: the fractions are not shares of a whole.
        DataError: as `split_groups`.
    """
    check_fractions(fractions)
    groups = table[columns.GROUP] if columns.GROUP in table else split_groups(table)
    if method == STRATIFIED:
        names = pd.Series([frozenset(f.name for f in found) for found in table[columns.FINDINGS]], index=table.index)
        of_groups = {group: frozenset().union(*sets) for group, sets in names.groupby(groups)}
        split_of = stratify(of_groups, fractions, seed)
    else:
        split_of = {group: _draw(group, fractions, seed) for group in groups.unique()}
    return pd.Series([split_of[group] for group in groups], index=table.index, name="split", dtype="str")


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


def split_balance(findings: pd.Series[Any], split: pd.Series[str], fractions: Mapping[str, float]) -> pd.DataFrame:
    """How evenly every finding is spread over the splits.

    Args:
        findings: tuples of findings of every row.
        split: of `assign_splits`.
        fractions: share of each split.

    Returns:
        One row per finding, the most frequent first: `finding`, `images`, the number of images in each split, and
        `imbalance`, the largest difference between a split's share of them and its fraction.
    """
    pairs = [
        (finding, where)
        for found, where in zip(findings, split, strict=True)
        for finding in sorted({finding.name for finding in found})
    ]
    long = pd.DataFrame(pairs, columns=["finding", "split"])
    counts = pd.crosstab(long["finding"], long["split"]).reindex(columns=list(fractions), fill_value=0)
    images = counts.sum(axis="columns")
    gaps = counts.div(images, axis="index") - pd.Series(dict(fractions))
    table = counts.assign(images=images, imbalance=gaps.abs().max(axis="columns").round(4))
    ordered = table.sort_values(["images", "imbalance"], ascending=[False, True]).reset_index()
    return ordered[["finding", "images", *fractions, "imbalance"]]


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


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Raise ConfigError unless the fractions are shares of a whole."""
    problems = [
        f"split share {name}={fraction}: must lie between 0 and 1"
        for name, fraction in fractions.items()
        if not 0 <= fraction <= 1
    ]
    if not problems and not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        problems.append(f"split shares add up to {sum(fractions.values()):g}: they must add up to 1")
    if problems:
        raise ConfigError(problems)
