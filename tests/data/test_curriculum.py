"""Curricula: what each promises of its order, whatever the difficulties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig

from xrayexp.config import parse_section
from xrayexp.data.curriculum import (
    COMPETENCE,
    Curriculum,
    CurriculumSection,
    Paced,
    Shuffled,
    Sorted,
    make_curriculum,
)

Compose = Callable[..., DictConfig]

difficulties = st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0, 7.0]), min_size=1, max_size=60).map(np.array)
seeds = st.integers(0, 2**32 - 1)
epochs = st.integers(0, 20)


def section(cfg: DictConfig) -> CurriculumSection:
    problems: list[str] = []
    found = parse_section(cfg, "curriculum", CurriculumSection, problems)
    assert found is not None, problems
    assert not problems
    return found


def paced(difficulty: np.ndarray, draws: int, seed: int = 0, competence: str = "root", review: float = 0.2) -> Paced:
    return Paced(difficulty, seed, draws, competence, start=0.2, full_at=0.6, review=review)


@given(difficulties, seeds, epochs, st.booleans())
def test_sorted_orders_are_permutations_by_difficulty(
    difficulty: np.ndarray, seed: int, epoch: int, hard_first: bool
) -> None:
    order = Sorted(difficulty, seed, hard_first).order(epoch)
    assert sorted(order) == list(range(len(difficulty)))
    steps = np.diff(difficulty[order])
    assert (steps <= 0).all() if hard_first else (steps >= 0).all()


def test_what_is_equally_hard_comes_in_another_order_each_epoch() -> None:
    order = Sorted(np.repeat([0.0, 1.0], 50), 0, hard_first=False)
    assert order.order(0).tolist() != order.order(1).tolist()
    assert Shuffled(100, 0).order(0).tolist() != Shuffled(100, 0).order(1).tolist()
    assert Shuffled(100, 0).order(0).tolist() != Shuffled(100, 1).order(0).tolist()


@given(difficulties, seeds, st.floats(1, 5), st.sampled_from(sorted(COMPETENCE)), st.sampled_from([0.0, 0.2, 0.9]))
def test_a_paced_run_sees_every_example(
    difficulty: np.ndarray, seed: int, length: float, competence: str, review: float
) -> None:
    draws = int(np.ceil(length * len(difficulty)))
    curriculum = paced(difficulty, draws, seed, competence, review)
    run = np.concatenate([curriculum.order(epoch) for epoch in range(int(np.ceil(length)) + 1)])[:draws]
    assert set(run) == set(range(len(difficulty)))


@given(st.integers(50, 200), seeds, st.sampled_from(sorted(COMPETENCE)))
def test_a_paced_run_draws_only_what_is_open(size: int, seed: int, competence: str) -> None:
    difficulty = np.random.default_rng(seed).permutation(size).astype(float)
    curriculum = paced(difficulty, 4 * size, seed, competence)
    run = np.concatenate([curriculum.order(epoch) for epoch in range(4)])
    for draw, sample in enumerate(run[: 2 * size]):
        assert difficulty[sample] < np.ceil(curriculum.open_share(draw) * size)


def test_easy_examples_stay_mixed_in() -> None:
    difficulty = np.arange(1000.0)
    run = np.concatenate([paced(difficulty, 3000).order(epoch) for epoch in range(3)])
    late_easy = (difficulty[run[1000:1800]] < 200).mean()
    assert 0.02 < late_easy < 0.3
    mostly = np.concatenate([paced(difficulty, 3000, review=0.9).order(epoch) for epoch in range(3)])
    assert len(set(mostly[:1000])) < len(set(run[:1000]))


@pytest.mark.parametrize("competence", sorted(COMPETENCE))
def test_competence_grows_from_start_to_everything(competence: str) -> None:
    curve = [COMPETENCE[competence](t, 0.2) for t in np.linspace(0, 1, 50)]
    assert curve[0] == pytest.approx(0.2)
    assert curve[-1] == pytest.approx(1.0)
    assert (np.diff(curve) >= 0).all()


def test_the_root_opens_sooner_than_the_line() -> None:
    """Platanios et al., equations 6 and 7."""
    assert COMPETENCE["linear"](0.5, 0.1) == pytest.approx(0.55)
    assert COMPETENCE["root"](0.5, 0.1) == pytest.approx(np.sqrt(0.5 * 0.99 + 0.01))


@given(st.integers(20, 100), st.integers(1, 100), seeds)
def test_a_run_of_an_epoch_or_less_is_paced_too(size: int, percent: int, seed: int) -> None:
    """It sees nothing twice; whoever asks for the rest of the epoch gets a full one all the same."""
    draws = max(1, size * percent // 100)
    curriculum = paced(np.arange(float(size)), draws, seed)
    order = curriculum.order(0)
    assert len(order) == size
    assert len(set(order[:draws])) == draws
    for draw, sample in enumerate(order[:draws]):
        assert sample < np.ceil(curriculum.open_share(draw) * size)


@pytest.mark.parametrize(
    "name, kind", [("none", Shuffled), ("easy_to_hard", Sorted), ("hard_first", Sorted), ("paced", Paced)]
)
def test_the_config_chooses(compose: Compose, name: str, kind: type[Curriculum]) -> None:
    difficulty = np.array([3.0, 1.0, 2.0, 2.0, 5.0])
    made = make_curriculum(section(compose(f"curriculum={name}")), difficulty, 0, draws=50)
    assert isinstance(made, kind)
    first = make_curriculum(section(compose(f"curriculum={name}")), difficulty, 0, draws=50).order(0)
    assert made.order(0).tolist() == first.tolist()
    if name == "hard_first":
        assert first[0] == 4
    if name in ("easy_to_hard", "paced"):
        assert first[0] == 1


@pytest.mark.parametrize(
    "override, message",
    [
        ("curriculum.order=upwards", "curriculum.order must be one of"),
        ("curriculum.order=none", "belongs to curriculum.order=paced"),
        ("curriculum.pace.competence=cubic", "competence must be one of linear, root, step"),
        ("curriculum.pace.start=0", "start must be above 0"),
        ("curriculum.pace.full_at=1.5", "full_at must be above 0 and at most 1"),
        ("curriculum.pace.review=1", "review must be at least 0 and below 1"),
        ("curriculum.difficulty.rarity_scale=square", "rarity_scale must be one of log, tiers"),
        ("curriculum/difficulty=model_loss", "make them with `xrayexp losses RUN`"),
        ("curriculum.difficulty.losses=losses.csv", "losses is not used while model_loss is 0"),
    ],
)
def test_mistakes_are_named(compose: Compose, override: str, message: str) -> None:
    problems: list[str] = []
    parse_section(compose("curriculum=paced", override), "curriculum", CurriculumSection, problems)
    assert any(message in problem for problem in problems)
