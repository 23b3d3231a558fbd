"""The names that a data set's labels can state, and what PadChest's names become in them.

A data set with 14 labels says nothing of a scoliosis. So before a report is scored against such labels, each of its
findings gets the name of the label that it falls under, and findings that no label knows are left out. A report of
which nothing is left says of these labels what 'normal' says.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
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
        left_out: labels of the data set that have none.
        broader: PadChest's name to the names of the labels that it falls under; a label's own name is in it.
    """

    name_of: Mapping[str, str]
    left_out: frozenset[str]
    broader: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, data: str) -> Vocabulary:
        """The vocabulary of a data set.

        Args:
            data: a value of the table's column `data`.
        """
        with TABLE.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["data"] == data]
        names = {row["label"]: (row["name"], *row["padchest"].split(SEPARATOR)) for row in rows if row["name"]}
        return cls.of_labels(names, frozenset(row["label"] for row in rows if not row["name"]))

    @classmethod
    def of_labels(cls, labels: Mapping[str, Sequence[str]], left_out: frozenset[str] = frozenset()) -> Vocabulary:
        """The vocabulary of some labels.

        Args:
            labels: the names of each: first its own here, then PadChest's others that fall under it.
            left_out: labels of the data set that have no name here.
        """
        broader: dict[str, dict[str, None]] = {}
        for own, *others in labels.values():
            for narrow in filter(None, (own, *others)):
                broader.setdefault(narrow, {})[own] = None
        name_of = {label: own for label, (own, *_) in labels.items()}
        return cls(name_of, left_out, {narrow: tuple(names) for narrow, names in broader.items()})

    def named(self, label: str, where: str) -> str | None:
        """The name of a label; None for one that is left out.

        Raises:
            DataError: `label` is none of the data set's.
        """
        if label in self.name_of:
            return self.name_of[label]
        if label in self.left_out:
            return None
        raise DataError(f"{where}: unknown label '{label}'; known are {', '.join(sorted(self.name_of))}")

    def restated(self, report: Report, unknown: frozenset[str] = frozenset()) -> Report:
        """A report in these labels: broader names, without places, and without what the labels do not cover.

        Args:
            report: in PadChest's names.
            unknown: names of labels that are uncertain for its image, of which nothing is scored.
        """
        names = (name for finding in report.findings for name in self.broader.get(finding.name, ()))
        kept = dict.fromkeys(name for name in names if name not in unknown)
        findings = tuple(Finding(name) for name in kept if name != NORMAL)
        return Report(findings or (Finding(NORMAL),))
