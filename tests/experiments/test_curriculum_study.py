"""What the study of curricula compares, adjusts and says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.curriculum.claims import CURRICULA, END, WAY, claims, differences, holm, interval, of, summary, verdict
from experiments.curriculum.run import STUDY, compute, plan
from experiments.embedded_default.runs import composed
from experiments.results import Results, Rows, Values
from experiments.study import Place
from xrayexp.data.partition import partition
from xrayexp.data.report import Finding, Report
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scoring import score
from xrayexp.metrics.structured.micro import Micro
from xrayexp.settings import Settings


def outcome(test: float, validation: float = 0.5, **changes: float) -> Values:
    return {
        "steps": 400,
        "validated": [200, 400],
        "validation": {"micro_f1": [validation - 0.1, validation + 0.1]},
        "test": {"micro_f1": test},
        "seen_share": 1.0,
        "most_visits": 2.0,
        "cpu_seconds": 60.0,
    } | changes


@pytest.fixture
def rows() -> Rows:
    """Hard first is worse at the end, paced is faster on the way, and easy to hard differs by noise."""
    noise = {
        "none": (0, 1, -1, 2, 0),
        "easy_to_hard": (1, -1, 2, 0, -1),
        "hard_first": (0, 1, 0, 1, 1),
        "paced": (1, 0, 0, 1, 0),
    }
    end = {"none": 0.92, "easy_to_hard": 0.92, "hard_first": 0.7, "paced": 0.92}
    way = {"none": 0.6, "easy_to_hard": 0.6, "hard_first": 0.6, "paced": 0.8}
    return {
        f"{name}-{seed}": outcome(end[name] + step / 500, way[name] + step / 500)
        for name, steps in noise.items()
        for seed, step in enumerate(steps)
    }


def test_every_curriculum_has_five_seeds_and_nothing_else_differs() -> None:
    rows = plan(False)
    assert [row.key for row in rows] == [f"{name}-{seed}" for seed in range(5) for name in CURRICULA]
    assert len({row.settings["config"] for row in rows}) == 20
    for row in rows:
        cfg = composed("train", row.settings["overrides"])
        assert cfg.curriculum.name == row.key.rpartition("-")[0]
        assert cfg.seed == int(row.key.rpartition("-")[2])
    others = {tuple(row.settings["overrides"][2:]) for row in rows}
    assert len(others) == 1


def test_validations_stand_at_the_steps_that_were_taken(tmp_path: Path) -> None:
    values = compute(plan(True)[0], Place(tmp_path, tmp_path / "work", recorded=False))
    assert values["validated"][-1] == values["steps"]


def test_epochs_are_whole_numbers_of_batches() -> None:
    cfg = composed("train", plan(False)[0].settings["overrides"])
    assert cfg.data.max_images.train % cfg.trainer.effective_batch_size == 0
    steps = cfg.trainer.max_epochs * cfg.data.max_images.train // cfg.trainer.effective_batch_size
    assert steps % cfg.trainer.validate_every == 0


def test_differences_are_those_of_the_paired_t_test(rows: Rows) -> None:
    found = differences(rows)
    assert len(found) == 6
    one, other = ([rows[f"{name}-{seed}"]["test"]["micro_f1"] for seed in range(5)] for name in ("hard_first", "none"))
    test = stats.ttest_rel(one, other)
    difference = found["hard_first", END]
    assert difference.mean == pytest.approx(np.mean(one) - np.mean(other))
    assert (difference.low, difference.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert difference.p >= test.pvalue
    assert {key for key, difference in found.items() if difference.shown} == {("hard_first", END), ("paced", WAY)}


def test_seeds_are_paired_whatever_the_order_of_the_rows(rows: Rows) -> None:
    assert differences(dict(sorted(rows.items(), reverse=True))) == differences(rows)


def test_the_interval_is_students() -> None:
    values = np.array([[0.1, 1.0], [0.4, 1.0], [0.2, 1.0]])
    low, mean, high = interval(values)
    expected = stats.t.interval(0.95, 2, loc=values[:, 0].mean(), scale=stats.sem(values[:, 0]))
    assert (low[0], high[0]) == pytest.approx(expected)
    assert (low[1], mean[1], high[1]) == pytest.approx((1, 1, 1))


def test_holms_example() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2; the last may not be below the one before."""
    assert holm([0.02, 0.01, 0.05, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_adjusted_values_keep_their_order_and_lie_between_the_raw_and_bonferronis(values: list[float]) -> None:
    adjusted = holm(values)
    assert [v for _, v in sorted(zip(values, adjusted, strict=True))] == sorted(adjusted)
    for value, found in zip(values, adjusted, strict=True):
        assert value <= found <= min(1, len(values) * value) + 1e-12


def test_the_verdict_says_what_the_numbers_show_and_no_more(rows: Rows) -> None:
    said = verdict(rows)
    assert said.startswith("**What beats a random order at the end: no curriculum; on the way: paced.**")
    end, way = said.splitlines()[2:]
    assert "worse than a random order: hard first (-0." in end
    assert "not to be told from it: easy to hard (" in end
    assert "better" not in end
    assert "better than a random order: paced (+0." in way


def test_curricula_that_change_nothing_are_said_to_help_with_nothing() -> None:
    same = {f"{name}-{seed}": outcome(0.9) for name in CURRICULA for seed in range(3)}
    assert "at the end: no curriculum; on the way: no curriculum" in verdict(same)
    assert summary(same, "paced", END) == pytest.approx((0.9, 0.9, 0.9))


@pytest.mark.parametrize(
    "key, values, broken",
    [
        ("none-0", outcome(0.92, cpu_seconds=3601), "CPU minutes of all runs"),
        ("paced-1", outcome(0.92, steps=399), "steps between the longest and the shortest run"),
        ("paced-2", outcome(0.92, seen_share=0.999), "share of the images that a paced run saw, at the least"),
        ("easy_to_hard-0", outcome(0.92, seen_share=0.9), "share of the images that a sorted run saw, at the least"),
        ("hard_first-4", outcome(0.7, most_visits=3), "visits of one image in a sorted run, at the most"),
        ("none-3", outcome(0.1), "test micro F1 of a random order, mean of the seeds"),
    ],
)
def test_one_bad_row_breaks_its_claim_and_no_other(rows: Rows, key: str, values: Values, broken: str) -> None:
    assert [claim.name for claim in claims(rows) if not claim.holds] == []
    assert [claim.name for claim in claims({**rows, key: values}) if not claim.holds] == [broken]


def test_what_the_readme_says_of_calling_everything_normal() -> None:
    """Its score, and that both sorted orders come down to it where normal images came last."""
    cfg = composed("train", plan(False)[0].settings["overrides"])
    cfg.paths.output_dir = ""
    data = Settings.from_config(cfg).data
    examples = partition(data, instantiate(data.source, _convert_="all"), None).examples["validation"]
    normal = Report((Finding("normal"),))
    scored = [
        ScoredReport(image_id=e.image_id, patient_id=e.patient_id, truth=Report(e.findings), predicted=normal)
        for e in examples
    ]
    normal_f1 = score(scored, [Micro()], bootstrap=0).headline("micro_f1")
    readme = (STUDY.folder / "README.md").read_text(encoding="utf-8")
    assert f"Calling every validation phantom normal scores {normal_f1:.3f}" in readme
    rows = Results.read(STUDY.folder / "results.json").values
    for name, step in (("easy_to_hard", 240), ("hard_first", 200)):
        found = [values["validation"]["micro_f1"][values["validated"].index(step)] for values in of(rows, name)]
        assert np.mean(found) == pytest.approx(normal_f1, abs=0.01)
