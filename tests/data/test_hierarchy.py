"""Rare findings under broader names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.hierarchy import broaden_rare, read_hierarchy
from xrayexp.data.report import Finding
from xrayexp.errors import DataError

TREE = {"b1": "b", "b2": "b", "b": "a", "c": "a"}
names = st.sampled_from(["a", "b", "b1", "b2", "c", "d"])
reports = st.lists(st.lists(names.map(Finding), min_size=1, max_size=3).map(tuple), max_size=20)


def test_siblings_add_up_before_their_parent_is_looked_at() -> None:
    rows = [(Finding("b1", ("left",)),), (Finding("b2"), Finding("d"))]
    renamed, rare = broaden_rare(rows, ["s1", "s2"], 2, TREE)
    assert renamed == [(Finding("b", ("left",)),), (Finding("b"), Finding("d"))]
    assert rare == {"d"}


def test_a_study_counts_once_however_many_images_it_has() -> None:
    rows = [(Finding("c"),)] * 3
    assert broaden_rare(rows, ["s", "s", "s"], 2, {})[1] == {"c"}
    assert broaden_rare(rows, ["s", "s", "t"], 2, {})[1] == frozenset()


def test_findings_that_become_the_same_are_one() -> None:
    assert broaden_rare([(Finding("b1"), Finding("b2"))], ["s"], 2, {"b1": "b", "b2": "b"})[0] == [(Finding("b"),)]


def test_normal_is_never_rare() -> None:
    assert broaden_rare([(Finding("normal"),)], ["s"], 5, {}) == ([(Finding("normal"),)], frozenset())


@given(reports, st.integers(1, 5))
def test_what_is_rare_at_last_has_no_parent(rows: list[tuple[Finding, ...]], least: int) -> None:
    studies = [str(number) for number in range(len(rows))]
    renamed, rare = broaden_rare(rows, studies, least, TREE)
    assert not rare & TREE.keys()
    for before, after in zip(rows, renamed, strict=True):
        assert {f.locations for f in before} == {f.locations for f in after}
        counts = [sum(f.name in {g.name for g in row} for row in renamed) for f in after]
        assert all(count >= least or f.name in rare for f, count in zip(after, counts, strict=True))


@pytest.mark.parametrize(
    "content, message",
    [
        ("label,parent\na,b\nb,a\n", "run in a circle"),
        ("label,parent\na,b\nA,c\n", "two parents"),
        ("label,parent\na,\n", "lacks its label or its parent"),
        ("label,other\na,b\n", "lacks columns: parent"),
        ("", "cannot be read"),
    ],
)
def test_a_broken_hierarchy_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tree.csv").write_text(content)
    with pytest.raises(DataError, match=rf"tree\.csv.*{message}"):
        read_hierarchy(tmp_path / "tree.csv")


def test_names_are_lower_case(tmp_path: Path) -> None:
    (tmp_path / "tree.csv").write_text("label,parent\nNSG tube , Tube\n")
    assert read_hierarchy(tmp_path / "tree.csv") == {"nsg tube": "tube"}
