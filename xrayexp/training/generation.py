"""Greedy, batched generation with cache, the probability of every token that was written, and answers at random."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

if TYPE_CHECKING:
    from xrayexp.data.collate import MicroBatch, ReportEncoder
    from xrayexp.training.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer.

    Attributes:
        text: without special tokens.
        token_ids: up to and with the end of turn (without one when the limit came first).
        log_probs: natural logarithm of each token's probability under the model.
        ends: length of the text when each token has been written.
        sampling: how answers to the same prompt were drawn at random; None where none were.
        samples: their texts.
    """

    text: str
    token_ids: list[int]
    log_probs: list[float]
    ends: list[int]
    sampling: Sampling | None = None
    samples: tuple[str, ...] = ()

    def probability(self, start: int, end: int) -> float:
        """Of the tokens that wrote these characters of the text, each given what stands before it."""
        starts = [0, *self.ends]
        written = zip(self.log_probs, starts, self.ends, strict=False)
        return math.exp(sum(p for p, first, last in written if first < end and last > start))

    def to_row(self) -> dict[str, Any]:
        """What its line of predictions.jsonl says beside the text."""
        row: dict[str, Any] = {"token_ids": self.token_ids, "log_probs": [round(p, 5) for p in self.log_probs]}
        return row if self.sampling is None else row | self.sampling.to_row(self.samples)


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


def generate(
    model: Any, batch: MicroBatch, encoder: ReportEncoder, max_new_tokens: int, sampling: Sampling | None = None
) -> list[Generated]:
    """Writes one answer for every prompt of a batch.

    Args:
        model: a Hugging Face generative model or a `PeftModel`, in evaluation mode.
        batch: prompts, padded on the left.
        encoder: the one that made the prompts.
        max_new_tokens: where an answer that does not end is cut off.
        sampling: answers at random beside it; None for none.
    """
    tokenizer = encoder.processor.tokenizer
    writer = Writer(model, batch.inputs, tokenizer, {tokenizer.eos_token_id, encoder.end_of_turn}, max_new_tokens)
    return writer.answers([sample.example.image_id for sample in batch.samples], sampling)


@dataclass(frozen=True)
class Writer:
    """A model and its prompts.

    Attributes:
        model: a generative model, in evaluation mode.
        inputs: its keyword arguments, padded on the left.
        tokenizer: of the model.
        ends: tokens that end an answer.
        max_new_tokens: where an answer that does not end is cut off.
    """

    model: Any
    inputs: Mapping[str, torch.Tensor]
    tokenizer: Any
    ends: Set[int]
    max_new_tokens: int

    def answers(self, image_ids: Sequence[str], sampling: Sampling | None = None) -> list[Generated]:
        """The likeliest answer to every prompt, token by token, and some at random.

        Args:
            image_ids: of the prompts; what is drawn for an image depends on them, and not on the batch it is in.
            sampling: None for no answers at random.
        """
        greedy = self.greedy()
        if sampling is None:
            return greedy
        drawn = [self._texts(sampling.processor(image_ids, n, self.max_new_tokens)) for n in range(sampling.number)]
        samples = zip(*drawn, strict=True)
        return [replace(a, sampling=sampling, samples=texts) for a, texts in zip(greedy, samples, strict=True)]

    def greedy(self) -> list[Generated]:
        """The likeliest answer to every prompt, token by token."""
        recorder = _GreedyLogProbs()
        written = self._written(recorder)
        log_probs = torch.stack(recorder.steps, dim=1).tolist()
        return [_answer(ids, probs, self.tokenizer) for ids, probs in zip(written, log_probs, strict=True)]

    def _texts(self, processor: LogitsProcessor) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(self._written(processor), skip_special_tokens=True)
        return texts

    @torch.no_grad()
    def _written(self, processor: LogitsProcessor) -> list[list[int]]:
        """The tokens with the highest score once the processor has seen them, up to and with the end of turn."""
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=sorted(self.ends),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        processors = LogitsProcessorList([processor])
        sequences = self.model.generate(**self.inputs, generation_config=config, logits_processor=processors)
        rows = sequences[:, self.inputs["input_ids"].shape[1] :].tolist()  # [batch][new tokens]
        return [ids[: self._length(ids)] for ids in rows]

    def _length(self, ids: Sequence[int]) -> int:
        return next((n + 1 for n, token in enumerate(ids) if token in self.ends), len(ids))


def _answer(ids: list[int], log_probs: list[float], tokenizer: Any) -> Generated:
    # Some tokens are parts of a character, and some decoders drop blanks: only whole prefixes tell where a token ends.
    prefixes = tokenizer.batch_decode([ids[:end] for end in range(1, len(ids) + 1)], skip_special_tokens=True)
    text = prefixes[-1] if prefixes else ""
    return Generated(text, ids, log_probs[: len(ids)], [len(prefix) for prefix in prefixes])
