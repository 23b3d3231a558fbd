"""The tables of this package speak PadChest's vocabulary, and leave out nothing that they should hold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from xrayexp.data.report import STATUSES
from xrayexp.metrics.structured.chexpert import CheXpert
from xrayexp.metrics.structured.hierarchy import Hierarchical
from xrayexp.metrics.structured.relevance import CLASSES, TABLE, Relevance
from xrayexp.metrics.tables import read_table, table_path

VOCABULARY = json.loads((Path(__file__).parents[1] / "data" / "padchest_vocabulary.json").read_text())
FINDINGS = set(VOCABULARY["findings"]) - STATUSES


def test_every_finding_of_padchest_is_in_exactly_one_class_of_relevance() -> None:
    table = read_table(table_path(TABLE))
    times = Counter(label for relevance in CLASSES for label in table[relevance])
    assert set(times) == FINDINGS
    assert set(times.values()) == {1}
    relevance = Relevance()
    urgent = {"pneumothorax", "pulmonary edema", "pulmonary mass", "mass"}
    assert {label for label in urgent if relevance.class_of[label] == "urgent"} == urgent
    assert relevance.weights["urgent"] > relevance.weights["relevant"] > relevance.weights["incidental"] > 0


def test_chexperts_observations_are_made_of_findings_of_padchest() -> None:
    observations = CheXpert().observations
    assert set(observations) <= FINDINGS
    assert "normal" not in observations  # No Finding is a rule
    assert observations["hydropneumothorax"] == ["Pneumothorax", "Pleural Effusion"]


def test_the_tree_is_one_of_findings_of_padchest() -> None:
    tree = Hierarchical()
    assert set(tree.parents) | set(tree.parents.values()) <= FINDINGS
    assert "normal" not in {*tree.parents, *tree.parents.values()}
    assert tree.line("air bronchogram") == ("air bronchogram", "consolidation", "alveolar pattern", "infiltrates")
