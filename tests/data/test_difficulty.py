"""The difficulty of an example, against sums done by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from xrayexp.data.difficulty import DifficultySection, difficulties
from xrayexp.data.examples import Example
from xrayexp.data.losses import write_losses
from xrayexp.data.report import Finding

WEIGHTS = DifficultySection(
    findings=1, locations=0.5, rarity=1, rarity_scale="log", network_labels=0.25, model_loss=0, losses=None
)


def example(*findings: Finding, method: str = "Physician", image_id: str = "i") -> Example:
    return Example(image_id, "p", "s", findings, method)


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


def test_a_models_loss_is_part_of_the_sum(tmp_path: Path) -> None:
    write_losses(tmp_path / "losses.csv", {"b": 0.5, "other": 9.0, "a": 2.0})
    weights = replace(WEIGHTS, model_loss=3, losses=str(tmp_path / "losses.csv"))
    examples = [example(NODULE, image_id="a"), example(Finding("normal"), image_id="b")]
    of_labels = difficulties(examples, WEIGHTS)
    assert difficulties(examples, weights) == pytest.approx(of_labels + 3 * np.array([2.0, 0.5]))


def test_the_preset_is_the_loss_alone(tmp_path: Path, compose: Callable[..., DictConfig]) -> None:
    file = tmp_path / "losses.csv"
    write_losses(file, {"a": 0.25, "b": 0.125})
    cfg = compose("curriculum/difficulty=model_loss", f"curriculum.difficulty.losses={file}")
    examples = [example(NODULE, EFFUSION, image_id="b"), example(Finding("normal"), image_id="a")]
    assert difficulties(examples, DifficultySection(**cfg.curriculum.difficulty)).tolist() == [0.125, 0.25]
