"""Before any trial: what a corner of the space cannot be composed of or used for is named with file and key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from omegaconf import DictConfig

from xrayexp.checks import Check
from xrayexp.errors import ConfigError, RequirementError
from xrayexp.search.preflight import check_space
from xrayexp.search.space import parse_space
from xrayexp.settings import Settings

Compose = Callable[..., DictConfig]

PLACE = "conf/search/mine.yaml: search.space"


def problems(compose: Compose, space: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_space(parse_space(space, PLACE), PLACE, lambda overrides: compose(*overrides), Settings.from_config)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    "key, text, problem",
    [
        ("adapter.rr", "4, 8", "the config has no key 'adapter.rr'"),
        ("adapter.r", "interval(2, 64)", "is a whole number (16), interval draws any: write int(interval(2, 64))"),
        ("adapter", "lora, dorra", "Did you mean 'adapter=dora'"),
        ("adapter.r", "0, 8", "adapter.r must be at least 1, not 0"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(compose: Compose, key: str, text: str, problem: str) -> None:
    [found] = problems(compose, {key: text})
    assert found.startswith(f"{PLACE}.{key}: ")
    assert problem in found


def test_a_mistake_in_one_branch_is_found(compose: Compose) -> None:
    [found] = problems(compose, {"adapter": {"lora": {}, "dora": {"optimizer.lrr": "interval(0.1, 0.2)"}}})
    assert found.startswith(f"{PLACE}.optimizer.lrr: the config has no key 'optimizer.lrr'")


def test_what_the_machine_lacks_is_said_once(compose: Compose) -> None:
    seen: list[DictConfig] = []

    def lacking(cfg: DictConfig) -> None:
        seen.append(cfg)
        raise RequirementError([Check("model weights", "missing", "not here", fix="download them")])

    def composed(overrides: Sequence[str]) -> DictConfig:
        return compose(*overrides)

    with pytest.raises(RequirementError, match="model weights: not here"):
        check_space(parse_space({"adapter.r": "4, 8, 16"}, PLACE), PLACE, composed, lacking)
    assert len(seen) == 1
