"""Rare findings: reported under a broader name where a hierarchy gives one.

PadChest's tree of findings is not shipped with the labels. Any tree can be given as a CSV with the columns `label`
and `parent`, one line for every label that has a parent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from xrayexp.data import table as columns
from xrayexp.data.report import NORMAL, Finding
from xrayexp.errors import DataError

CHILD, PARENT = "label", "parent"

Findings = tuple[Finding, ...]


def read_hierarchy(path: Path) -> dict[str, str]:
    """The parent of every label that has one, in lower case.

    Raises:
        DataError: the file cannot be read, lacks a column, gives a label two parents or runs in a circle.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a hierarchy of findings ({error})") from error
    columns.require_columns(table, (CHILD, PARENT), where=str(path))
    parents: dict[str, str] = {}
    for child, parent in zip(table[CHILD].str.strip().str.lower(), table[PARENT].str.strip().str.lower(), strict=True):
        if not child or not parent:
            raise DataError(f"{path}: a line lacks its label or its parent: {child!r}, {parent!r}.")
        if parents.setdefault(child, parent) != parent:
            raise DataError(f"{path}: '{child}' has two parents, '{parents[child]}' and '{parent}'.")
    for label in parents:
        if _depth(label, parents) is None:
            raise DataError(f"{path}: the parents of '{label}' run in a circle.")
    return parents


def broaden_rare(
    reports: Sequence[Findings], studies: Sequence[str], least: int, parents: Mapping[str, str]
) -> tuple[list[Findings], frozenset[str]]:
    """Renames findings of fewer than `least` studies to their parents until they are frequent or have no parent.

    The deepest are renamed first, so that siblings add up before their parent is looked at. A finding keeps its
    locations; two that become the same are one.

    Args:
        reports: the findings of every row.
        studies: the study of every row; a study counts once, however many images it has.
        least: studies that a finding must be in.
        parents: of `read_hierarchy`; may be empty.

    Returns:
        The findings of every row, and the names that are still rare.
    """
    renamed = list(reports)
    while True:
        rare = _rare(renamed, studies, least)
        depths = {name: _depth(name, parents) or 0 for name in rare if name in parents}
        if not depths:
            return renamed, rare
        deepest = max(depths.values())
        new = {name: parents[name] for name, depth in depths.items() if depth == deepest}
        cache = {findings: _rename(findings, new) for findings in set(renamed)}
        renamed = [cache[findings] for findings in renamed]


def _rare(reports: Sequence[Findings], studies: Sequence[str], least: int) -> frozenset[str]:
    pairs = {(finding.name, study) for findings, study in zip(reports, studies, strict=True) for finding in findings}
    counts = Counter(name for name, _ in pairs)
    return frozenset(name for name, count in counts.items() if count < least and name != NORMAL)


def _rename(findings: Iterable[Finding], new: Mapping[str, str]) -> Findings:
    return tuple(dict.fromkeys(Finding(new.get(f.name, f.name), f.locations) for f in findings))


def _depth(label: str, parents: Mapping[str, str]) -> int | None:
    """How many ancestors a label has; None when they run in a circle."""
    seen = {label}
    while (label := parents.get(label, "")) and label not in seen:
        seen.add(label)
    return None if label else len(seen) - 1
