"""What the study of the embedded default changes, keeps and claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.embedded_default.claims import claims, paired_difference
from experiments.embedded_default.controls import ShuffledLabels, random_base
from experiments.embedded_default.run import BASE, STUDY, plan
from experiments.embedded_default.runs import digest
from experiments.results import Results, Rows, Values
from xrayexp.data import table as columns
from xrayexp.data.phantom import PhantomSource
from xrayexp.data.phantom_drawing import Acquisition
from xrayexp.data.splits import assign_splits

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def phantoms() -> PhantomSource:
    return PhantomSource(80, 32, 3, Acquisition((1.0, 1.0), (0.0, 0.0), 0.0, (1.0, 1.0), 0.0))


def test_only_training_labels_are_shuffled(phantoms: PhantomSource) -> None:
    true, shuffled = phantoms.table(), ShuffledLabels(phantoms, SHARES, 0).table()
    training = assign_splits(true, SHARES, 0) == "train"
    assert shuffled.drop(columns=columns.SENTENCES).equals(true.drop(columns=columns.SENTENCES))
    labels, permuted = true[columns.SENTENCES], shuffled[columns.SENTENCES]
    assert labels[~training].equals(permuted[~training])
    assert sorted(labels[training]) == sorted(permuted[training])
    assert (labels[training] != permuted[training]).mean() > 0.5


def test_shuffling_is_the_same_every_time_and_leaves_images_alone(phantoms: PhantomSource) -> None:
    shuffled = ShuffledLabels(phantoms, SHARES, 0)
    assert shuffled.table().equals(shuffled.table())
    image = str(shuffled.table()[columns.IMAGE].iloc[0])
    assert np.array_equal(shuffled.image(image), phantoms.image(image))


def test_random_base_has_the_shape_of_the_base_and_other_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base = load_file(BASE)
    random = load_file(Path(random_base(str(BASE.parent), tmp_path / "random")) / BASE.name)
    assert {name: tensor.shape for name, tensor in random.items()} == {name: t.shape for name, t in base.items()}
    large = [name for name, tensor in base.items() if tensor.ndim > 1]
    assert large
    assert all((random[name] - base[name]).abs().max() > 1e-3 for name in large)


def test_digest_follows_the_config() -> None:
    assert digest(["adapter=lora", "seed=0"]) == digest([])
    assert digest(["seed=1"]) != digest([])


def test_plan_has_both_adapters_three_seeds_and_three_controls() -> None:
    keys = [row.key for row in plan(False)]
    assert keys == ["before", *(f"{adapter}-{seed}" for adapter in ("lora", "dora") for seed in (0, 1, 2)),
                    "rank-1", "random-base", "shuffled-labels"]  # fmt: skip


def outcome(correct: str, patients: str = "0 0 1 2") -> Values:
    """A row in which the images of `correct` marked 1 are right by both metrics."""
    share = sum(map(int, correct)) / len(correct)
    return {
        "metrics": {name: {"value": share, "low": 0, "high": 1} for name in ("soft_match", "exact_match")},
        "outcomes": {"soft_match": correct, "exact_match": correct},
        "patients": patients,
        "fit_cpu_seconds": 100.0,
    }


@pytest.fixture
def rows() -> Rows:
    """Two perfect adapters, and controls that are always wrong."""
    adapters = {f"{name}-{seed}": outcome("1111") for name in ("lora", "dora") for seed in (0, 1)}
    controls = {name: outcome("0000") for name in ("before", "rank-1", "random-base", "shuffled-labels")}
    return {**controls, **adapters}


def test_claims_hold_for_perfect_adapters_and_useless_controls(rows: Rows) -> None:
    found = claims(rows)
    assert [claim.name for claim in found if not claim.holds] == []
    assert len(found) == 1 + 2 * 4 + 1 + 3 * 2


@pytest.mark.parametrize(
    "key, values, broken",
    [
        ("before", outcome("1111"), {"soft match before fine-tuning"}),
        ("dora-1", outcome("1110"), {f"DoRA, {metric} match, {kind} of 2 seeds" for metric in ("soft", "exact")
                                     for kind in ("worst", "mean")} - {"DoRA, exact match, mean of 2 seeds"}),
        ("lora-1", outcome("1111") | {"fit_cpu_seconds": 241.0}, {"LoRA, CPU seconds of the slowest fit"}),
        ("rank-1", outcome("1111"), {f"rank 1, {metric} match lost, at the least" for metric in ("soft", "exact")}),
    ],
)  # fmt: skip
def test_one_bad_row_breaks_its_claims_and_no_other(rows: Rows, key: str, values: Values, broken: set[str]) -> None:
    assert {claim.name for claim in claims({**rows, key: values}) if not claim.holds} == broken


def test_difference_of_a_row_to_itself_is_zero() -> None:
    assert paired_difference(outcome("1010"), outcome("1010"), "soft_match") == (0.0, 0.0)


def test_interval_resamples_patients() -> None:
    """Ten images of one patient weigh as one observation: the interval is that of two patients, not of 20 images."""
    good, bad = (
        outcome("1" * 20, " ".join("0" * 10 + "1" * 10)),
        outcome("1" * 10 + "0" * 10, " ".join("0" * 10 + "1" * 10)),
    )
    assert paired_difference(good, bad, "exact_match") == (0.0, 1.0)


def test_rows_of_other_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="not scored on the same images"):
        paired_difference(outcome("1111"), outcome("1111", "0 1 2 3"), "soft_match")


def test_recorded_rows_were_made_with_the_base_in_the_repository() -> None:
    recorded = Results.read(STUDY.folder / "results.json")
    bases = {row.settings["base"] for row in recorded.rows}
    assert bases == {row.settings["base"] for row in plan(False)}
