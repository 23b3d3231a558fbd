"""What the labels of a table say, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xrayexp.data import table as columns
from xrayexp.data.examples import read_findings
from xrayexp.data.report import NORMAL

MOST_TOGETHER = 20  # findings whose co-occurrence is counted


@dataclass(frozen=True)
class LabelStatistics:
    """Counts of images, unless said otherwise.

    Attributes:
        images: rows of the table.
        patients: distinct PatientIDs.
        studies: distinct StudyIDs.
        findings: by finding, most frequent first; `normal` is one.
        per_image: by number of distinct findings; 0 for normal.
        projections: by `Projection`; empty where the table has none.
        methods: by `MethodLabel`: who labelled it.
        together: of the most frequent findings, the share of the row's images that also have the column's.
    """

    images: int
    patients: int
    studies: int
    findings: pd.Series[int]
    per_image: pd.Series[int]
    projections: pd.Series[int]
    methods: pd.Series[int]
    together: pd.DataFrame


def label_statistics(table: pd.DataFrame) -> LabelStatistics:
    """Counts what a table of usable rows says.

    Args:
        table: of a `xrayexp.data.examples.Source`.

    Raises:
        DataError: its labels cannot be parsed.
    """
    reports = table[columns.FINDINGS] if columns.FINDINGS in table else read_findings(table)
    names = [frozenset(finding.name for finding in report) for report in reports]
    mentions = pd.Series([name for found in names for name in sorted(found)], dtype=object)
    counts = mentions.value_counts()
    frequent = [name for name in counts.index if name != NORMAL][:MOST_TOGETHER]
    return LabelStatistics(
        images=len(table),
        patients=table[columns.PATIENT].nunique(),
        studies=table[columns.STUDY].nunique(),
        findings=counts,
        per_image=pd.Series([len(found - {NORMAL}) for found in names], dtype="int64").value_counts().sort_index(),
        projections=_counts(table, columns.PROJECTION),
        methods=_counts(table, columns.METHOD),
        together=_together(names, frequent),
    )


def _counts(table: pd.DataFrame, column: str) -> pd.Series[int]:
    given: pd.Series[Any] = table[column] if column in table else pd.Series(dtype=object)
    return given.fillna("missing").value_counts()


def _together(names: list[frozenset[str]], frequent: list[str]) -> pd.DataFrame:
    """[findings, findings]"""
    place = {name: number for number, name in enumerate(frequent)}
    has = np.zeros((len(names), len(frequent)), dtype=np.float32)
    for row, found in enumerate(names):
        for name in found & place.keys():
            has[row, place[name]] = 1
    both = has.T @ has
    shares = both / np.maximum(np.diag(both), 1)[:, None]
    return pd.DataFrame(shares, index=pd.Index(frequent), columns=pd.Index(frequent))
