"""The loss at supervised positions is the loss that transformers computes over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import PreTrainedModel

from xrayexp.data.collate import IGNORED, EncodedSample, pad
from xrayexp.training.loss import supervised_loss_means, supervised_loss_sum


@pytest.fixture(scope="module")
def model(load_tiny: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return load_tiny()


@pytest.mark.parametrize("count", [1, 5])
def test_it_is_the_loss_of_transformers(model: PreTrainedModel, samples: Sequence[EncodedSample], count: int) -> None:
    batch = pad(samples[:count], pad_token_id=0)
    supervised = int((batch.labels != IGNORED).sum())
    with torch.no_grad():
        theirs = model(**batch.inputs, labels=batch.labels).loss
        ours = supervised_loss_sum(model, batch.inputs, batch.labels)
    assert ours.shape == ()
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours / supervised, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_neither_loss_nor_gradient(
    load_tiny: Callable[..., PreTrainedModel], samples: Sequence[EncodedSample], chunk: int
) -> None:
    batch = pad(samples, pad_token_id=0)
    found = []
    for size in (None, chunk):
        model = load_tiny()
        weight = model.get_output_embeddings().weight.requires_grad_()
        loss = supervised_loss_sum(model, batch.inputs, batch.labels, size)
        loss.backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        found.append((loss.detach(), weight.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


def test_samples_do_not_see_each_other_or_the_padding(model: PreTrainedModel, samples: Sequence[EncodedSample]) -> None:
    together = pad(samples, pad_token_id=0)
    assert (together.inputs["attention_mask"] == 0).any()
    with torch.no_grad():
        whole = supervised_loss_sum(model, together.inputs, together.labels)
        single = [pad([sample], pad_token_id=0) for sample in samples]
        parts = [supervised_loss_sum(model, one.inputs, one.labels) for one in single]
    torch.testing.assert_close(torch.stack(parts).sum(), whole, rtol=1e-5, atol=1e-4)


def test_means_are_those_of_each_sample(model: PreTrainedModel, samples: Sequence[EncodedSample]) -> None:
    together = pad(samples, pad_token_id=0)
    single = [pad([sample], pad_token_id=0) for sample in samples]
    with torch.no_grad():
        means = supervised_loss_means(model, together.inputs, together.labels)
        theirs = torch.stack([model(**one.inputs, labels=one.labels).loss for one in single])
    assert means.shape == (len(samples),)
    assert means.dtype == torch.float32
    assert means.std() > 0.01
    torch.testing.assert_close(means, theirs, rtol=1e-5, atol=1e-5)


def test_it_is_the_report_that_is_learnt(model: PreTrainedModel, samples: Sequence[EncodedSample]) -> None:
    """Other words in the report change the loss; another target outside of it cannot."""
    batch = pad(samples[:1], pad_token_id=0)
    nothing = torch.full_like(batch.labels, IGNORED)
    nothing[0, -1] = batch.labels[0, -1]
    with torch.no_grad():
        last = supervised_loss_sum(model, batch.inputs, nothing)
        logits = model(**batch.inputs).logits[0, -2].log_softmax(dim=-1)
    torch.testing.assert_close(last, -logits[batch.labels[0, -1]])


def test_the_image_is_seen_in_both_directions(model: PreTrainedModel, samples: Sequence[EncodedSample]) -> None:
    """With the marks of image tokens the first of them sees the last, without them it does not."""
    batch = pad(samples[:1], pad_token_id=0)
    causal = {**batch.inputs, "token_type_ids": torch.zeros_like(batch.inputs["token_type_ids"])}
    first = int(batch.inputs["token_type_ids"][0].argmax())
    with torch.no_grad():
        both = model.model(**batch.inputs).last_hidden_state[0]
        one = model.model(**causal).last_hidden_state[0]
    torch.testing.assert_close(both[:first], one[:first])
    assert not torch.allclose(both[first], one[first], atol=1e-3)
