"""Which rows of a label table are used: one step after the other, each with the number of rows that it leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from xrayexp.data import table as columns
from xrayexp.data.external.padchest_gr import read_studies
from xrayexp.data.hierarchy import broaden_rare, read_hierarchy
from xrayexp.data.label_file import EXCLUDED, SUBOPTIMAL, UNCHANGED, UNLABELLED
from xrayexp.errors import DataError

IDENTIFIERS = (columns.PATIENT, columns.STUDY, columns.REPORT, columns.IMAGE)


@dataclass
class Funnel:
    """A table that gets smaller, and the steps by which it did: (what is kept, rows left)."""

    table: pd.DataFrame
    steps: list[tuple[str, int]] = field(default_factory=list)

    def keep(self, what: str, mask: Iterable[bool]) -> None:
        """Keeps the rows where `mask` is true."""
        self.table = self.table[np.fromiter(mask, dtype=bool, count=len(self.table))]
        self.steps.append((what, len(self.table)))

    def __str__(self) -> str:
        return "\n".join(f"  {rows:>7,} {step}" for step, rows in self.steps)


@dataclass(frozen=True)
class Selection:
    """What is wanted of a label table.

    Attributes:
        projections: values of `Projection`.
        methods: values of `MethodLabel`.
        min_age: least age in years, the study's year less the year of birth; None for all ages.
        min_studies: studies in which a finding must occur.
        hierarchy: file of `read_hierarchy`, by which rarer findings get a broader name; None for none.
        exclude: file of `read_identifiers`; everyone who is connected to one of them is left out. None for none.
    """

    projections: tuple[str, ...]
    methods: tuple[str, ...]
    min_age: int | None
    min_studies: int
    hierarchy: str | None
    exclude: str | None


def select(table: pd.DataFrame, wanted: Selection, name: str) -> Funnel:
    """Selects rows of a table of `read_labels`.

    Args:
        table: the whole table.
        wanted: what to keep.
        name: of the table, for its first line.

    Raises:
        DataError: a file that is named cannot be read, or the list to exclude names nobody.
    """
    listed = read_identifiers(Path(wanted.exclude)) if wanted.exclude else frozenset()
    parents = read_hierarchy(Path(wanted.hierarchy)) if wanted.hierarchy else {}
    funnel = Funnel(table, [(f"rows of {name}", len(table))])
    if wanted.exclude:
        funnel.keep(f"not connected to {Path(wanted.exclude).name}", ~_connected(table, listed, wanted.exclude))
    funnel.keep(f"projection {', '.join(wanted.projections)}", _is(funnel, columns.PROJECTION, wanted.projections))
    funnel.keep(f"labels by {', '.join(wanted.methods)}", _is(funnel, columns.METHOD, wanted.methods))
    for step, status in (
        ("with a label", UNLABELLED),
        ("not excluded", EXCLUDED),
        ("not suboptimal", SUBOPTIMAL),
        ("not only 'unchanged'", UNCHANGED),
    ):
        funnel.keep(step, ~_is(funnel, columns.STATUS, [status]))
    if wanted.min_age is not None:
        # The flag alone misses thousands. Who has no year of birth cannot be shown to be an adult.
        old_enough = (funnel.table[columns.AGE] >= wanted.min_age) & ~_is(funnel, columns.PEDIATRIC, ["PED"])
        funnel.keep(f"{wanted.min_age} years or older", old_enough)
    if wanted.min_studies > 1:
        _drop_rare(funnel, wanted.min_studies, parents)
    return funnel


def read_identifiers(path: Path) -> frozenset[str]:
    """Identifiers of patients, studies, reports or images: a CSV with such columns, or one identifier a line.

    A JSON is read as PadChest-GR's, whose studies are meant.

    Raises:
        DataError: the file cannot be read or is empty.
    """
    if path.suffix == ".json":
        return frozenset(study["StudyID"] for study in read_studies(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = [name.strip(' "') for name in text.partition("\n")[0].split(",")]
        if set(names) & set(IDENTIFIERS):
            table = pd.read_csv(StringIO(text), dtype=str, header=0, names=names, index_col=False)
            lines = [value for name in IDENTIFIERS if name in table for value in table[name].dropna()]
        else:
            lines = text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a list of identifiers ({error}).") from error
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise DataError(f"{path}: holds no identifier.")
    return frozenset(lines)


def _connected(table: pd.DataFrame, listed: frozenset[str], path: str) -> pd.Series[bool]:
    """Rows of the groups that hold a listed identifier."""
    named = pd.Series(False, index=table.index)
    for column in IDENTIFIERS:
        named |= table[column].isin(listed)
    if not named.any():
        raise DataError(
            f"{path}: none of its {len(listed)} identifiers is in the label file; expected one identifier a line, or a "
            f"CSV, delimited by commas, with any of the columns {', '.join(IDENTIFIERS)}."
        )
    return table[columns.GROUP].isin(table[columns.GROUP][named])


def _is(funnel: Funnel, column: str, values: Sequence[str]) -> pd.Series[bool]:
    return funnel.table[column].isin(values)


def _drop_rare(funnel: Funnel, least: int, parents: dict[str, str]) -> None:
    """A row with a finding that stays rare goes as a whole: without it, its report would teach an omission."""
    table = funnel.table
    reports, rare = broaden_rare(table[columns.FINDINGS].to_list(), table[columns.STUDY].to_list(), least, parents)
    funnel.table = table.assign(**{columns.FINDINGS: pd.Series(reports, index=table.index, dtype=object)})
    funnel.keep(
        f"without findings of fewer than {least} studies ({len(rare)} of them)",
        [not any(finding.name in rare for finding in findings) for findings in reports],
    )
