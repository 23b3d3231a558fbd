"""What the study of adapters plans, chooses and claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.adapter_quality import runs
from experiments.adapter_quality.claims import ADAPTERS, claims, paired_difference, scores
from experiments.adapter_quality.run import SEEDS, TUNING_SEED, blocks, plan
from experiments.results import Results, Row, Rows, Values
from experiments.study import Place


def test_plan_tunes_every_adapter_before_its_seeds() -> None:
    rows = plan(False)
    assert [row.key for row in rows] == [f"{name}-{key}" for name in ADAPTERS for key in ("tuning", *SEEDS)]
    assert TUNING_SEED not in SEEDS
    assert all(("grid" in row.settings) == row.key.endswith("tuning") for row in rows)
    grids = {row.settings["adapter"]: row.settings["grid"] for row in rows if "grid" in row.settings}
    assert grids["lora"] == [0.33, 1.0, 3.0]
    assert grids["vera"] == [3.3, 10.0, 30.0]


def measured(micro_f1: float, **others: float) -> Values:
    test = {"micro_f1": micro_f1, "exact_match": micro_f1, "unparseable_rate": 0.0} | others
    return {"test": test, "cpu_seconds": 60.0, "fit_cpu_seconds": 30.0, "trainable_parameters": 7}


@pytest.fixture
def rows() -> Rows:
    tuning = {"scores": {"1": 0.5, "3": 0.4}, "chosen": 1.0, "cpu_seconds": 120.0}
    lora = {f"lora-{seed}": measured(0.9 + 0.01 * seed) for seed in range(3)}
    dora = {f"dora-{seed}": measured(0.92 + 0.01 * seed + 0.001 * (seed - 1)) for seed in range(3)}
    return {"lora-tuning": tuning, **lora, "dora-tuning": tuning, **dora}


def test_differences_are_paired_by_seed(rows: Rows) -> None:
    """The spread between seeds, which both adapters share, is not in the interval."""
    mean, low, high = paired_difference(rows, "dora")
    assert mean == pytest.approx(0.02)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(4.303 * 0.001 / 3**0.5, rel=1e-3)
    assert paired_difference(rows, "lora") == (0.0, 0.0, 0.0)
    assert scores(rows, "lora") == pytest.approx([0.9, 0.91, 0.92])


def test_claims_count_tuning_and_break_one_by_one(rows: Rows) -> None:
    found = claims(rows)
    assert all(claim.holds for claim in found)
    assert found[0].value == pytest.approx((2 * 120 + 6 * 60) / 60)
    for changed, broken in (({"cpu_seconds": 1e5}, 0), (measured(0.1), 1), (measured(0.9, unparseable_rate=0.2), 2)):
        worse = {**rows, "lora-0": {**rows["lora-0"], **changed}, "lora-1": {**rows["lora-1"], **changed}}
        assert [claim.holds for claim in claims(worse)].index(False) == broken


def test_blocks_show_the_interval_and_what_was_tuned(rows: Rows) -> None:
    shown = blocks(rows)
    assert "+0.020 [+0.018, +0.022]" in shown["scores"]
    assert "1: 0.500; 3: 0.400" in shown["tuning"]


def test_a_seed_is_tested_at_the_rate_that_tuning_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], bool]] = []

    def run(overrides: list[str], name: str, place: Any, *, test: bool) -> Values:
        asked.append((overrides, test))
        scale = overrides[-1].partition("=")[2]
        return {"validation": {"1.0": 0.6, "3.0": 0.8, "9.0": 0.8}[scale], "cpu_seconds": 1.0}

    monkeypatch.setattr(runs, "_run", run)
    place = Place(tmp_path, tmp_path / "work", recorded=False)
    tuning = Row("lora-tuning", {"adapter": "lora", "overrides": ["seed=100"], "grid": [1.0, 3.0, 9.0]})
    values = runs.compute(tuning, place)
    assert values["chosen"] == 3.0
    assert not any(test for _, test in asked), "the test split must choose nothing"
    Results("adapter_quality", "", {}, (Row(tuning.key, tuning.settings, values),)).write(tmp_path / "results.json")
    runs.compute(Row("lora-0", {"adapter": "lora", "overrides": ["seed=0"]}), place)
    assert asked[-1] == (["seed=0", "adapter.lr_scale=3.0"], True)
