"""What a model answers to a few prompts, and its logits along given answers: to compare models by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from xrayexp.adapters.attach import base_model
from xrayexp.data.collate import Batch, pad
from xrayexp.training.generation import Generated, generate

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from xrayexp.data.collate import EncodedSample, ReportEncoder


class Questions:
    """A few images with their prompt, and how a model is asked.

    Args:
        samples: prompts without report.
        encoder: the one that made them.
        max_new_tokens: limit of a generated report.
    """

    def __init__(self, samples: Sequence[EncodedSample], encoder: ReportEncoder, max_new_tokens: int) -> None:
        self.samples, self.encoder, self.max_new_tokens = samples, encoder, max_new_tokens

    def answers(self, model: PeftModel | PreTrainedModel) -> list[Generated]:
        """The reports that a model writes, one for each image."""
        batch = Batch(tuple(self.samples), self.encoder.pad_token_id).padded().to(_device(model))
        return generate(model.eval(), batch, self.encoder, self.max_new_tokens)

    @torch.no_grad()
    def logits(self, model: PeftModel | PreTrainedModel, answers: Sequence[Generated]) -> list[torch.Tensor]:
        """A model's logits at every token of the given answers, on the CPU: [tokens, vocabulary] for each image.

        Row t is what the model thinks of the answer's token t when it has read the tokens before. Images go through
        one by one, so that padding has no part in it.
        """
        model.eval()
        return [
            self._along(base_model(model), sample, answer.token_ids)
            for sample, answer in zip(self.samples, answers, strict=True)
        ]

    def _along(self, model: Any, sample: EncodedSample, answer: Sequence[int]) -> torch.Tensor:
        written = torch.tensor(answer)
        text = torch.zeros_like(written)  # no image tokens among them
        whole = replace(
            sample,
            input_ids=torch.cat([sample.input_ids, written]),
            labels=torch.cat([sample.labels, written]),
            token_type_ids=torch.cat([sample.token_type_ids, text]),
        )
        inputs = pad([whole], self.encoder.pad_token_id).to(_device(model)).inputs
        hidden = model.model(**inputs, use_cache=False).last_hidden_state[0]  # [tokens, hidden]
        logits: torch.Tensor = model.get_output_embeddings()(hidden[-len(answer) - 1 : -1])
        return logits.cpu()


def _device(model: PeftModel | PreTrainedModel) -> torch.device:
    device: torch.device = base_model(model).device
    return device
