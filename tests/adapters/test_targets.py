"""Which layers the named targets mean, on the real module names."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from xrayexp.adapters.targets import TARGETS, target_modules
from xrayexp.errors import ConfigError

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
FEED_FORWARD = {"gate_proj", "up_proj", "down_proj"}
VISION = {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}


@pytest.fixture(scope="module")
def model(load_tiny: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return load_tiny("nf4")


def chosen(model: PreTrainedModel, target: str) -> list[str]:
    """The modules that PEFT would put an adapter on, as it matches a string: the whole name."""
    pattern = target_modules(model, target)
    return [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]


def kinds(names: list[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


def test_language_is_every_linear_layer_of_the_decoder_and_never_vision(model: PreTrainedModel) -> None:
    names = chosen(model, "language")
    assert all("language_model" in name and "vision" not in name for name in names)
    assert kinds(names) == ATTENTION | FEED_FORWARD
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "language_model" in n]
    assert sorted(names) == sorted(linear)


def test_language_and_vision(model: PreTrainedModel) -> None:
    names = chosen(model, "language+vision")
    vision = [name for name in names if "vision_tower" in name]
    assert kinds(vision) == VISION
    assert [name for name in names if name not in vision] == chosen(model, "language")
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "vision_tower" in n]
    assert sorted(vision) == sorted(linear)


def test_attention_is_the_decoders(model: PreTrainedModel) -> None:
    names = chosen(model, "attention")
    assert kinds(names) == ATTENTION
    assert all("language_model" in name for name in names)
    assert len(names) == 4 * model.config.text_config.num_hidden_layers


@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_linear_layers_and_not_the_vocabulary(model: PreTrainedModel, target: str) -> None:
    modules = dict(model.named_modules())
    for name in chosen(model, target):
        assert isinstance(modules[name], torch.nn.Linear)
        assert not name.endswith(("lm_head", "embed_tokens"))


def test_a_regular_expression_of_ones_own(model: PreTrainedModel) -> None:
    assert kinds(chosen(model, r".*layers\.0\..*(q_proj|fc1)")) == {"q_proj", "fc1"}
    assert all(".layers.0." in name for name in chosen(model, r".*layers\.0\..*(q_proj|fc1)"))


@pytest.mark.parametrize(
    "target, words",
    [
        ("visoin", "matches"),
        ("q_proj", "matches"),  # not the whole name
        (r".*layernorm.*", "matches"),
        ("(", "not a regular expression"),
    ],
)
def test_a_target_that_means_nothing(model: PreTrainedModel, target: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        target_modules(model, target)
    assert f"adapter.target: '{target}'" in str(caught.value)


@pytest.mark.parametrize("target", [".*", r".*self_attn.*", r".*language_model.*"])
def test_a_target_that_means_more_than_linear_layers(model: PreTrainedModel, target: str) -> None:
    """PEFT would stop at the first module of another kind, with a traceback."""
    with pytest.raises(ConfigError, match=r"adapter\.target"):
        target_modules(model, target)
