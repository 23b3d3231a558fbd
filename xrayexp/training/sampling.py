"""Answers at random: every image's draws are its own, whatever batch it is in and on whatever device.

A token is drawn by inverting the distribution at a number that is known beforehand (Devroye, Non-Uniform Random Variate
Generation, 1986, section III.2), so that one such number decides each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from transformers import LogitsProcessor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        number: of answers for each image, at least 1.
        temperature: logits are divided by it, above 0; 1 draws from the model's own distribution.
        seed: of the draws.
    """

    number: int
    temperature: float
    seed: int

    def processor(self, image_ids: Sequence[str], sample: int, steps: int) -> LogitsProcessor:
        """What makes greedy decoding draw.

        Args:
            image_ids: of the rows of the batch.
            sample: which of an image's answers, from 0.
            steps: tokens of an answer, at most.
        """
        rows = [torch.rand(steps, generator=self._generator(one, sample), dtype=torch.float64) for one in image_ids]
        return _Drawn(torch.stack(rows), self.temperature)

    def to_row(self, texts: Sequence[str]) -> dict[str, Any]:
        """What the line of predictions.jsonl says about an image's answers."""
        return {"samples": list(texts), "temperature": self.temperature, "seed": self.seed}

    def _generator(self, image_id: str, sample: int) -> torch.Generator:
        key = f"{self.seed}/{sample}".encode()
        number = int.from_bytes(blake2b(image_id.encode(), key=key, digest_size=8).digest(), "big")
        return torch.Generator().manual_seed(number >> 1)  # torch takes 63 bits


class _Drawn(LogitsProcessor):
    """Leaves of every row's scores the token that is drawn.

    Args:
        uniform: from 0 to 1, float64 [batch, steps]; one decides one token.
        temperature: of the distribution.
    """

    def __init__(self, uniform: torch.Tensor, temperature: float) -> None:
        self.uniform, self.temperature, self.step = uniform, temperature, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # In float64: 262,208 probabilities added up in float32 would be off by more than the rare ones are.
        cumulative = (scores.double() / self.temperature).softmax(dim=-1).cumsum(dim=-1)  # [batch, vocabulary]
        place = self.uniform[:, self.step, None].to(scores.device) * cumulative[:, -1:]
        self.step += 1
        token = torch.searchsorted(cumulative, place, right=True)  # the first whose sum is above it
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)
