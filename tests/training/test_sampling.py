"""Answers at random: from the model's distribution, and each image's own whatever its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from transformers import PreTrainedModel

from xrayexp.data.collate import EncodedSample, ReportEncoder, pad
from xrayexp.training.generation import generate
from xrayexp.training.sampling import Sampling

LIMIT = 12


def drawn(scores: torch.Tensor, sampling: Sampling, ids: Sequence[str], sample: int = 0) -> list[int]:
    """The first token of every row."""
    found = sampling.processor(ids, sample, 3)(torch.zeros(len(ids), 1, dtype=torch.int64), scores)
    assert torch.isfinite(found).sum(dim=-1).eq(1).all()
    tokens: list[int] = found.argmax(dim=-1).tolist()
    return tokens


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_have_the_frequency_of_their_probability(temperature: float) -> None:
    """20,000 draws: four standard errors of a share are at most 0.015."""
    logits = torch.tensor([1.0, -torch.inf, 0.0, 2.0, -1.0])
    tokens = drawn(logits.expand(20_000, -1), Sampling(1, temperature, 0), [f"{i}" for i in range(20_000)])
    shares = np.bincount(tokens, minlength=5) / len(tokens)
    assert shares == pytest.approx((logits / temperature).softmax(dim=-1).numpy(), abs=0.015)
    assert shares[1] == 0


@settings(max_examples=30)
@given(arrays.arrays(np.float32, 7, elements=st.floats(-30, 30, width=32)), st.integers(0, 2**62), st.text(max_size=3))
def test_draws_belong_to_an_image(logits: NDArray[np.float32], seed: int, image_id: str) -> None:
    """Alone as among others; and a token that cannot be is never taken."""
    sampling = Sampling(2, 1.0, seed)
    scores = torch.from_numpy(logits)
    scores[3] = -torch.inf
    [alone] = drawn(scores[None], sampling, [image_id])
    assert drawn(scores.expand(3, -1), sampling, ["a", image_id, "b"])[1] == alone != 3


def test_images_samples_and_seeds_draw_differently() -> None:
    ids = [f"{i}" for i in range(64)]
    flat = torch.zeros(64, 100)
    found = [drawn(flat, Sampling(2, 1.0, seed), ids, sample) for seed, sample in ((0, 0), (0, 1), (1, 0))]
    assert len(set(map(tuple, found))) == 3
    assert all(len(set(tokens)) > 30 for tokens in found)


@pytest.fixture(scope="module")
def model(load_tiny: Callable[..., PreTrainedModel]) -> Any:
    return load_tiny().eval()


@pytest.fixture(scope="module")
def prompts(samples: Sequence[EncodedSample], encoder: ReportEncoder) -> list[EncodedSample]:
    length = len(encoder.prompt_ids)
    return [
        EncodedSample(s.example, s.input_ids[:length], s.labels[:length], s.token_type_ids[:length], s.pixels, s.scale)
        for s in samples[:3]
    ]


def test_a_model_writes_the_same_samples_in_any_batch(
    model: Any, prompts: list[EncodedSample], encoder: ReportEncoder
) -> None:
    sampling = Sampling(2, 1.0, 3)
    together = generate(model, pad(prompts, encoder.pad_token_id), encoder, LIMIT, sampling)
    greedy = generate(model, pad(prompts, encoder.pad_token_id), encoder, LIMIT)
    for prompt, answer, plain in zip(prompts, together, greedy, strict=True):
        [alone] = generate(model, pad([prompt], encoder.pad_token_id), encoder, LIMIT, sampling)
        assert alone.samples == answer.samples
        assert (answer.text, answer.token_ids, plain.samples) == (plain.text, plain.token_ids, ())
        assert answer.to_row() | {"samples": list(answer.samples), "temperature": 1.0, "seed": 3} == answer.to_row()
        assert "temperature" not in plain.to_row()
    assert len({text for answer in together for text in answer.samples}) > 2


def test_no_temperature_is_greedy(model: Any, prompts: list[EncodedSample], encoder: ReportEncoder) -> None:
    answers = generate(model, pad(prompts, encoder.pad_token_id), encoder, LIMIT, Sampling(1, 1e-6, 0))
    assert [answer.samples for answer in answers] == [(answer.text,) for answer in answers]
