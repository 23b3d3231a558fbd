"""Greedy, batched generation with cache, and the probability of every token that was written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

if TYPE_CHECKING:
    from xrayexp.data.collate import MicroBatch, ReportEncoder


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer.

    Attributes:
        text: without special tokens.
        token_ids: up to and with the end of turn (without one when the limit came first).
        log_probs: natural logarithm of each token's probability under the model.
        ends: length of the text when each token has been written.
    """

    text: str
    token_ids: list[int]
    log_probs: list[float]
    ends: list[int]

    def probability(self, start: int, end: int) -> float:
        """Of the tokens that wrote these characters of the text, each given what stands before it."""
        starts = [0, *self.ends]
        written = zip(self.log_probs, starts, self.ends, strict=False)
        return math.exp(sum(p for p, first, last in written if first < end and last > start))

    def to_row(self) -> dict[str, Any]:
        """What its line of predictions.jsonl says beside the text."""
        return {"token_ids": self.token_ids, "log_probs": [round(p, 5) for p in self.log_probs]}


class _GreedyLogProbs(LogitsProcessor):
    """Keeps the log-probability of the token that greedy decoding takes.

    transformers can return the scores of all steps instead: with 262,208 words that is a gigabyte for a thousand
    tokens.
    """

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []  # [batch] each

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append(scores.float().log_softmax(dim=-1).amax(dim=-1))
        return scores


@torch.no_grad()
def generate(model: Any, batch: MicroBatch, encoder: ReportEncoder, max_new_tokens: int) -> list[Generated]:
    """Writes one answer for every prompt of a batch.

    Args:
        model: a Hugging Face generative model or a `PeftModel`, in evaluation mode.
        batch: prompts, padded on the left.
        encoder: the one that made the prompts.
        max_new_tokens: where an answer that does not end is cut off.
    """
    ends = {encoder.processor.tokenizer.eos_token_id, encoder.end_of_turn}
    return greedy(model, batch.inputs, encoder.processor.tokenizer, ends, max_new_tokens)


@torch.no_grad()
def greedy(
    model: Any, inputs: Mapping[str, torch.Tensor], tokenizer: Any, ends: Set[int], max_new_tokens: int
) -> list[Generated]:
    """Writes one answer for every row of a model's inputs.

    Args:
        model: a generative model, in evaluation mode.
        inputs: its keyword arguments, padded on the left.
        tokenizer: of the model.
        ends: tokens that end an answer.
        max_new_tokens: where an answer that does not end is cut off.
    """
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    recorder = _GreedyLogProbs()
    sequences = model.generate(**inputs, generation_config=config, logits_processor=LogitsProcessorList([recorder]))
    written = sequences[:, inputs["input_ids"].shape[1] :].tolist()  # [batch][new tokens]
    log_probs = torch.stack(recorder.steps, dim=1).tolist()
    return [_answer(ids, probs, ends, tokenizer) for ids, probs in zip(written, log_probs, strict=True)]


def _answer(ids: list[int], log_probs: list[float], ends: Set[int], tokenizer: Any) -> Generated:
    length = next((n + 1 for n, token in enumerate(ids) if token in ends), len(ids))
    # Some tokens are parts of a character, and some decoders drop blanks: only whole prefixes tell where a token ends.
    prefixes = tokenizer.batch_decode([ids[:end] for end in range(1, length + 1)], skip_special_tokens=True)
    text = prefixes[-1] if prefixes else ""
    return Generated(text, ids[:length], log_probs[:length], [len(prefix) for prefix in prefixes])
