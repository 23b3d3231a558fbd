"""The masks of a step are transformers' own, for images, padding and windows of any place and length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from xrayexp.models.attention_masks import gemma3_masks, with_attention_masks

WINDOW = 8


@pytest.fixture(scope="module")
def tiny(load_tiny: Callable[..., PreTrainedModel]) -> Any:
    model: Any = load_tiny()
    model.config.text_config.sliding_window = WINDOW
    return model.model


def samples(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Rows of text and images, some right beside each other, with padding on either side."""
    tokens = draw(st.integers(2, 20))
    kinds = st.lists(st.integers(0, 1), min_size=tokens, max_size=tokens)
    rows = draw(st.lists(kinds, min_size=1, max_size=3))
    real = torch.ones(len(rows), tokens, dtype=torch.long)
    for row in real:
        padding = draw(st.integers(0, tokens - 1))
        row[slice(0, padding) if draw(st.booleans()) else slice(tokens - padding, None)] = 0
    ids = torch.ones_like(real)
    return {"input_ids": ids, "attention_mask": real, "token_type_ids": torch.tensor(rows)}


def transformers_own(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What Gemma 3 hands its language model."""
    given_: dict[str, Any] = {}

    def noted(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        given_.update(kwargs)

    handle = model.language_model.register_forward_pre_hook(noted, with_kwargs=True)
    with torch.no_grad():
        model(**inputs, use_cache=False)
    handle.remove()
    masks: dict[str, torch.Tensor] = given_["attention_mask"]
    return masks


@settings(max_examples=40, deadline=None)
@given(inputs=st.composite(samples)())
def test_masks_are_those_of_transformers(tiny: Any, inputs: dict[str, torch.Tensor]) -> None:
    found = gemma3_masks(inputs["attention_mask"], inputs["token_type_ids"], WINDOW)
    expected = transformers_own(tiny, inputs)
    assert found.keys() == expected.keys()
    for kind, mask in expected.items():
        assert torch.equal(found[kind], mask), kind


def test_samples_within_the_window_share_one_mask() -> None:
    real = torch.ones(1, WINDOW, dtype=torch.long)
    masks = gemma3_masks(real, real, WINDOW)
    assert masks["full_attention"] is masks["sliding_attention"]
    assert bool(masks["full_attention"].all()), "a token of an image sees all of it"


def test_other_models_and_other_attention_are_left_alone(load_tiny: Callable[..., PreTrainedModel]) -> None:
    model: Any = load_tiny()
    inputs = {"attention_mask": torch.ones(1, 4), "token_type_ids": torch.zeros(1, 4)}
    assert with_attention_masks(model, inputs)["attention_mask"].keys() == {"full_attention", "sliding_attention"}
    model.set_attn_implementation("eager")
    assert with_attention_masks(model, inputs) is inputs
    model.set_attn_implementation("sdpa")
    model.config.model_type = "paligemma"
    assert with_attention_masks(model, inputs) is inputs
