"""The names that a data set's labels can state, and what PadChest's names become in them.

A data set with 14 labels says nothing of a scoliosis. So before a report is scored against such labels, each of its
findings gets the name of the label that it falls under, and findings that no label knows are left out. A report of
which nothing is left says of these labels what 'normal' says.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xrayexp.data.report import NORMAL, Finding, Report
from xrayexp.errors import DataError

TABLE = Path(__file__).with_name("vocabulary.csv")
"""Columns: `data`, `label` as the data set writes it, `name` that it has here (empty: it is left out), `padchest`."""

SEPARATOR = "; "


@dataclass(frozen=True)
class Vocabulary:
    """The labels of one data set.

    Attributes:
        name_of: label, as the data set writes it, to its name here; labels that are left out are missing.
        broader: PadChest's name to the name of the label that it falls under; a label's own name is in it.
    """

    name_of: Mapping[str, str]
    broader: Mapping[str, str]

    @classmethod
    def of(cls, data: str, labels: Iterable[str] | None = None) -> Vocabulary:
        """The vocabulary of a data set.

        Args:
            data: a value of the table's column `data`.
            labels: those that are used; None for all.
        """
        with TABLE.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["data"] == data and row["name"]]
        wanted = None if labels is None else set(labels)
        rows = [row for row in rows if wanted is None or row["label"] in wanted]
        broader = {
            narrow: row["name"]
            for row in rows
            for narrow in (row["name"], *filter(None, row["padchest"].split(SEPARATOR)))
        }
        return cls({row["label"]: row["name"] for row in rows}, broader)

    def named(self, label: str, where: str) -> str | None:
        """The name of a label; None for one that is left out.

        Raises:
            DataError: `label` is none of the data set's.
        """
        if label in self.name_of:
            return self.name_of[label]
        if label in _all_labels():
            return None
        raise DataError(f"{where}: unknown label '{label}'; known are {', '.join(sorted(self.name_of))}")

    def restated(self, report: Report, unknown: frozenset[str] = frozenset()) -> Report:
        """A report in these labels: broader names, without places, and without what the labels do not cover.

        Args:
            report: in PadChest's names.
            unknown: names of labels that are uncertain for its image, of which nothing is scored.
        """
        names = [self.broader.get(finding.name) for finding in report.findings]
        kept = dict.fromkeys(name for name in names if name is not None and name not in unknown)
        findings = tuple(Finding(name) for name in kept if name != NORMAL)
        return Report(findings or (Finding(NORMAL),))


def _all_labels() -> frozenset[str]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return frozenset(row["label"] for row in csv.DictReader(file))
