"""Logits along a model's own answers: at every token they say what greedy decoding took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from xrayexp.data.collate import IGNORED, EncodedSample, ReportEncoder
from xrayexp.training.answers import Questions


def test_the_logits_are_those_that_generation_saw(
    load_tiny: Callable[..., PreTrainedModel], encoder: ReportEncoder, samples: Sequence[EncodedSample]
) -> None:
    prompts = []
    for sample in samples[:3]:
        prompt = sample.labels == IGNORED
        fields = {name: getattr(sample, name)[prompt] for name in ("input_ids", "labels", "token_type_ids")}
        prompts.append(replace(sample, **fields))
    questions, model = Questions(prompts, encoder, max_new_tokens=12), load_tiny()
    answers = questions.answers(model)
    found = questions.logits(model, answers)
    assert len(found) == 3
    for logits, answer in zip(found, answers, strict=True):
        assert logits.shape == (len(answer.token_ids), model.get_output_embeddings().weight.shape[0])
        assert logits.argmax(dim=-1).tolist() == answer.token_ids
        taken = logits.log_softmax(dim=-1).amax(dim=-1)
        torch.testing.assert_close(taken, torch.tensor(answer.log_probs), rtol=0, atol=1e-4)
