"""Generation: greedy, with the probability of every token, and the same alone as in a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from xrayexp.adapters.attach import load_adapter
from xrayexp.data.collate import EncodedSample, ReportEncoder, pad
from xrayexp.data.report import name_spans
from xrayexp.tracking.summary import TrainingSummary
from xrayexp.training.generation import Generated, generate

LIMIT = 80


@pytest.fixture(scope="module")
def model(trained_run: TrainingSummary, load_tiny: Callable[..., PreTrainedModel]) -> Any:
    """The trained run's adapter, which writes reports of different length."""
    return load_adapter(load_tiny("nf4"), trained_run.folder / "checkpoints" / "last").eval()


@pytest.fixture(scope="module")
def prompts(samples: Sequence[EncodedSample], encoder: ReportEncoder) -> list[EncodedSample]:
    """The same images, without their reports."""
    length = len(encoder.prompt_ids)
    return [
        EncodedSample(s.example, s.input_ids[:length], s.labels[:length], s.token_type_ids[:length], s.pixels, s.scale)
        for s in samples
    ]


@pytest.fixture(scope="module")
def answers(model: Any, prompts: list[EncodedSample], encoder: ReportEncoder) -> list[Generated]:
    return generate(model, pad(prompts, encoder.pad_token_id), encoder, LIMIT)


def test_every_token_is_the_likeliest_and_its_probability_is_told(
    model: Any, prompts: list[EncodedSample], answers: list[Generated]
) -> None:
    """Against one forward pass over prompt and answer, without cache and without padding."""
    for prompt, answer in zip(prompts, answers, strict=True):
        written = torch.tensor(answer.token_ids)
        inputs = {
            "input_ids": torch.cat([prompt.input_ids, written])[None],
            "token_type_ids": torch.cat([prompt.token_type_ids, torch.zeros_like(written)])[None],
            "pixel_values": prompt.pixel_values[None],
        }
        with torch.no_grad():
            log_probs = model(**inputs).logits[0].log_softmax(dim=-1)  # [tokens, vocabulary]
        before = log_probs[len(prompt.input_ids) - 1 : -1]
        assert before.argmax(dim=-1).tolist() == answer.token_ids
        assert answer.log_probs == pytest.approx(before.amax(dim=-1).tolist(), abs=1e-4)


def test_alone_as_in_a_batch(
    model: Any, prompts: list[EncodedSample], answers: list[Generated], encoder: ReportEncoder
) -> None:
    for prompt, together in zip(prompts, answers, strict=True):
        [alone] = generate(model, pad([prompt], encoder.pad_token_id), encoder, LIMIT)
        assert alone.token_ids == together.token_ids
        assert alone.text == together.text
        assert alone.log_probs == pytest.approx(together.log_probs, abs=1e-4)


def test_characters_have_the_probability_of_the_tokens_that_wrote_them(
    answers: list[Generated], encoder: ReportEncoder
) -> None:
    """Token by token: a decoded token is what it adds to the text."""
    assert any(name_spans(answer.text) for answer in answers), "a model that names nothing shows nothing"
    for answer in answers:
        for name, (start, end) in name_spans(answer.text).items():
            place, expected, written = 0, 0.0, ""
            for token, log_prob in zip(answer.token_ids, answer.log_probs, strict=True):
                piece = encoder.processor.tokenizer.decode([token], skip_special_tokens=True)
                if place < end and place + len(piece) > start:
                    expected, written = expected + log_prob, written + piece
                place += len(piece)
            assert name in written.lower()
            assert answer.probability(start, end) == pytest.approx(math.exp(expected))


def test_an_answer_ends_with_its_turn(answers: list[Generated], encoder: ReportEncoder) -> None:
    assert len({len(answer.token_ids) for answer in answers}) > 1, "answers of one length show nothing"
    for answer in answers:
        assert len(answer.log_probs) == len(answer.token_ids)
        assert encoder.end_of_turn not in answer.token_ids[:-1]
        assert encoder.pad_token_id not in answer.token_ids
        assert (answer.token_ids[-1] == encoder.end_of_turn) == (len(answer.token_ids) < LIMIT)
        assert "<" not in answer.text
        assert all(log_prob <= 0 for log_prob in answer.log_probs)


def test_an_answer_that_does_not_end_is_cut_off(
    model: Any, prompts: list[EncodedSample], answers: list[Generated], encoder: ReportEncoder
) -> None:
    short = generate(model, pad(prompts, encoder.pad_token_id), encoder, 5)
    assert [answer.token_ids for answer in short] == [answer.token_ids[:5] for answer in answers]


def test_generation_keeps_no_gradients(model: Any, prompts: list[EncodedSample], encoder: ReportEncoder) -> None:
    seen: list[bool] = []
    hook = model.register_forward_hook(lambda module, args, out: seen.append(out.logits.requires_grad))
    generate(model, pad(prompts[:1], encoder.pad_token_id), encoder, 2)
    hook.remove()
    assert not any(seen)
