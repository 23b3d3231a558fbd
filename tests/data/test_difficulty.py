"""The difficulty of an example, against sums done by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from omegaconf import DictConfig

from xrayexp.data.difficulty import DifficultySection, difficulties
from xrayexp.data.examples import Example
from xrayexp.data.report import Finding

WEIGHTS = DifficultySection(findings=1, locations=0.5, rarity=1, rarity_scale="log", network_labels=0.25)


def example(*findings: Finding, method: str = "Physician") -> Example:
    return Example("i", "p", "s", findings, method)


NODULE = Finding("nodule", ("left",))
EFFUSION = Finding("pleural effusion", ("left", "pleural"))


def test_the_sum() -> None:
    examples = [
        example(Finding("normal")),
        example(NODULE),
        example(NODULE, EFFUSION),
        example(Finding("normal"), method="RNN_model"),
    ]
    rare, rarer = np.log10(4 / 2), np.log10(4 / 1)
    # Two findings at two distinct places; the rarest counts; normal is no finding.
    assert difficulties(examples, WEIGHTS) == pytest.approx([0, 1 + 0.5 + rare, 2 + 1.0 + rarer, 0.25])


def test_explainmyxrays_preset(compose: Callable[..., DictConfig]) -> None:
    """2 for every finding, 1 for every location, 5, 3, 1 or 0 for at most 5, 20, 50 or more images."""
    weights = DifficultySection(**compose("curriculum/difficulty=explainmyxray").curriculum.difficulty)
    for count, points in ((1, 5), (5, 5), (6, 3), (20, 3), (21, 1), (50, 1), (51, 0)):
        assert difficulties([example(NODULE)] * count, weights)[0] == 2 + 1 + points


def test_a_finding_at_two_places_is_one_finding() -> None:
    twice = example(Finding("nodule", ("left",)), Finding("nodule", ("right",)))
    assert difficulties([twice], WEIGHTS) == pytest.approx([1 + 2 * 0.5])
