"""What is supervised, how it is padded, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayexp.data.collate import IGNORED, Batch, BrokenImage, EncodedSample, ReportEncoder, check_lengths, pad
from xrayexp.data.examples import Example
from xrayexp.data.report import NORMAL, Finding, write_report
from xrayexp.errors import DataError

NOTHING = (Finding(NORMAL),)
MUCH = (
    Finding("cardiomegaly", ("cardiac",)),
    Finding("nodule", ("left lower lobe",)),
    Finding("pleural effusion", ("pleural", "right")),
)


def example(findings: tuple[Finding, ...] = MUCH, name: str = "one.png") -> Example:
    return Example(name, "patient", "study", findings)


def image(height: int = 96, width: int = 96) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(height, width), dtype=np.uint8)


@pytest.fixture(scope="module")
def short(encoder: ReportEncoder) -> EncodedSample:
    return encoder.encode(example(NOTHING, "short.png"), image(), supervised=True)


@pytest.fixture(scope="module")
def long(encoder: ReportEncoder) -> EncodedSample:
    return encoder.encode(example(MUCH, "long.png"), image(), supervised=True)


@pytest.mark.parametrize("findings", [NOTHING, MUCH])
def test_the_report_and_its_end_of_turn_are_supervised_and_nothing_else(
    encoder: ReportEncoder, findings: tuple[Finding, ...]
) -> None:
    sample = encoder.encode(example(findings), image(), supervised=True)
    supervised = sample.labels != IGNORED
    text = encoder.processor.tokenizer.decode(sample.labels[supervised])
    assert text == write_report(findings) + "<end_of_turn>"
    assert torch.equal(sample.labels[supervised], sample.input_ids[supervised])
    # One run of tokens at the end: not the prompt, not the image.
    assert supervised.tolist() == sorted(supervised.tolist())
    assert not (supervised & (sample.token_type_ids == 1)).any()


def test_a_sample_is_the_chat_as_the_template_writes_it(encoder: ReportEncoder) -> None:
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe."}]},
        {"role": "assistant", "content": [{"type": "text", "text": write_report(MUCH)}]},
    ]
    asked = ReportEncoder(encoder.processor, "Describe.", encoder.max_length)
    text = encoder.processor.apply_chat_template(chat, tokenize=False)
    pixels = np.repeat(image()[:, :, None], 3, axis=2)
    whole = encoder.processor(text=[text], images=[[pixels]], add_special_tokens=False, return_tensors="pt")
    sample = asked.encode(example(), image(), supervised=True)
    after_the_turn = encoder.processor.tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert whole["input_ids"][0].tolist() == sample.input_ids.tolist() + after_the_turn
    torch.testing.assert_close(whole["pixel_values"][0], sample.pixel_values)
    marked = torch.as_tensor(whole["token_type_ids"])[0]
    assert torch.equal(marked[: len(sample.input_ids)], sample.token_type_ids)


def test_the_prompt_begins_once_and_holds_every_image_token(encoder: ReportEncoder) -> None:
    tokenizer, processor = encoder.processor.tokenizer, encoder.processor
    ids = encoder.prompt_ids.tolist()
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.image_token_id) == processor.image_seq_length
    assert tokenizer.decode(ids).endswith("<start_of_turn>model\n")


def test_the_prompt_alone_is_asked_at_generation(encoder: ReportEncoder) -> None:
    sample = encoder.encode(example(), image(), supervised=False)
    assert torch.equal(sample.input_ids, encoder.prompt_ids)
    assert (sample.labels == IGNORED).all()


def test_image_tokens_are_marked(encoder: ReportEncoder, long: EncodedSample) -> None:
    """A mark too few makes attention between image tokens causal, and transformers says nothing."""
    assert torch.equal(long.token_type_ids.bool(), long.input_ids == encoder.processor.tokenizer.image_token_id)
    assert long.token_type_ids.sum() == encoder.processor.image_seq_length


def test_a_batch_without_image_marks_is_refused(short: EncodedSample, long: EncodedSample) -> None:
    unmarked = replace(long, token_type_ids=torch.zeros_like(long.token_type_ids))
    with pytest.raises(DataError, match=r"long\.png.*token_type_ids"):
        pad([short, unmarked], pad_token_id=0)


def test_padding_is_on_the_left_and_masked(encoder: ReportEncoder, short: EncodedSample, long: EncodedSample) -> None:
    missing = len(long.input_ids) - len(short.input_ids)
    assert missing > 0
    batch = pad([short, long], encoder.pad_token_id)
    rows = {**batch.inputs, "labels": batch.labels}
    assert all(rows[name].shape == (2, len(long.input_ids)) for name in rows if name != "pixel_values")
    padding = {name: rows[name][0, :missing].unique().tolist() for name in rows if name != "pixel_values"}
    assert padding == {
        "input_ids": [encoder.pad_token_id], "attention_mask": [0], "token_type_ids": [0], "labels": [IGNORED],
    }  # fmt: skip
    assert (batch.inputs["attention_mask"][0, missing:] == 1).all()
    assert (batch.inputs["attention_mask"][1] == 1).all()
    for name in ("input_ids", "token_type_ids", "labels"):
        assert torch.equal(rows[name][0, missing:], getattr(short, name))
        assert torch.equal(rows[name][1], getattr(long, name))
    assert torch.equal(batch.inputs["pixel_values"], torch.stack([short.pixel_values, long.pixel_values]))


def test_pixels_move_as_bytes_and_become_numbers_where_they_are(short: EncodedSample, long: EncodedSample) -> None:
    batch = pad([short, long], pad_token_id=0)
    assert batch.pixels.dtype == torch.uint8
    moved = batch.to(torch.device("meta"))
    assert moved.pixels.dtype == torch.uint8
    tensors = (*moved.inputs.values(), moved.pixels, moved.labels)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.inputs["pixel_values"].shape == batch.inputs["pixel_values"].shape == (2, 3, 64, 64)
    assert moved.inputs["pixel_values"].dtype == torch.float32


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_arrives_as_it_was_sent(short: EncodedSample, long: EncodedSample, count: int) -> None:
    """Its pixels share one piece of memory: every tensor of its own would cost a file."""
    samples, broken = (short, long, short)[:count], (BrokenImage("a.png", "truncated"),)
    sent = Batch(samples, 7, broken)
    arrived = pickle.loads(pickle.dumps(sent))
    assert (len(arrived), arrived.pad_token_id, arrived.broken) == (count, 7, broken)
    for sample, there in zip(samples, arrived.samples, strict=True):
        assert (there.example, there.scale) == (sample.example, sample.scale)
        for name in ("input_ids", "labels", "token_type_ids", "pixels"):
            assert getattr(there, name).dtype == getattr(sample, name).dtype
            assert torch.equal(getattr(there, name), getattr(sample, name))
    assert len({sample.pixels.untyped_storage().data_ptr() for sample in arrived.samples}) == min(count, 1)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 10))
@settings(max_examples=25, deadline=None)
def test_micro_batches_cut_a_batch_without_losing_anything(
    encoder: ReportEncoder, short: EncodedSample, long: EncodedSample, choice: list[bool], size: int
) -> None:
    batch = Batch(tuple(long if one else short for one in choice), encoder.pad_token_id)
    pieces = list(batch.micro_batches(size))
    cut = [sample for piece in pieces for sample in piece.samples]
    assert sorted(map(id, cut)) == sorted(map(id, batch.samples))
    lengths = [len(sample.input_ids) for sample in cut]
    assert lengths == sorted(lengths, reverse=True)  # like goes with like
    assert all(1 <= len(piece.samples) <= size for piece in pieces)
    assert sum(int((piece.labels != IGNORED).sum()) for piece in pieces) == batch.supervised_tokens
    assert batch.supervised_tokens == sum(len(encoder.report_ids(s.example)) for s in batch.samples)
    for piece in pieces:  # each is as long as its own longest sample
        assert piece.labels.shape[1] == max(len(sample.input_ids) for sample in piece.samples)


def test_an_image_keeps_its_proportions(encoder: ReportEncoder) -> None:
    tall = np.full((90, 30), 255, dtype=np.uint8)
    pixels = encoder.encode(example(), tall, supervised=False).pixel_values
    assert pixels.shape[0] == 3
    assert pixels.shape[1] == pixels.shape[2]
    assert (pixels.amax(dim=0) > 0.9).float().mean() == pytest.approx(1 / 3, abs=0.05)
    assert (pixels[0] == pixels[1]).all()
    assert pixels.min() == pytest.approx(-1, abs=0.02)


def test_what_is_too_long_is_refused_and_never_cut(encoder: ReportEncoder) -> None:
    limit = ReportEncoder(encoder.processor, "Describe.", max_length=1).length(example())
    exact = ReportEncoder(encoder.processor, "Describe.", max_length=limit)
    assert len(exact.encode(example(), image(), supervised=True).input_ids) == limit
    under = ReportEncoder(encoder.processor, "Describe.", max_length=limit - 1)
    with pytest.raises(DataError, match=rf"one\.png: {limit} tokens.*max_length={limit - 1}"):
        under.encode(example(), image(), supervised=True)


def test_a_training_set_is_refused_with_names_counts_and_the_length_that_would_do(
    encoder: ReportEncoder,
) -> None:
    examples = [example(NOTHING, "short.png"), example(MUCH, "long.png"), example(MUCH[:2], "middle.png")]
    short, long, middle = (encoder.length(one) for one in examples)
    assert short < middle < long
    asked = "Write a report."
    offset = ReportEncoder(encoder.processor, asked, 1).length(examples[0]) - short
    with pytest.raises(DataError) as caught:
        check_lengths(ReportEncoder(encoder.processor, asked, middle + offset - 1), examples)
    message = str(caught.value)
    assert "2 of 3" in message
    assert message.index("long.png") < message.index("middle.png")
    assert "short.png" not in message
    assert f"model.max_length={long + offset}." in message
    check_lengths(ReportEncoder(encoder.processor, asked, long + offset), examples)
