"""Pre-training of the tiny Gemma 3: first it learns to see, then to speak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, get_cosine_schedule_with_warmup

from experiments.tiny_base.corpus import REWRITE_PROMPT, caption
from experiments.tiny_base.processor import IMAGE_SIZE, IMAGE_TOKENS
from xrayexp.data.collate import END_OF_TURN, IGNORED, ReportEncoder
from xrayexp.data.report import Finding, write_report
from xrayexp.training.loss import supervised_loss_sum

if TYPE_CHECKING:
    from transformers import Gemma3Processor

REWRITE_EVERY = 3  # one step of so many is on text alone


def build_model(processor: Gemma3Processor) -> Gemma3ForConditionalGeneration:
    """A Gemma 3 of about 0.3 M parameters, randomly initialised from torch's global seed."""
    ids = processor.tokenizer.convert_tokens_to_ids
    special = {"pad_token_id": ids("<pad>"), "bos_token_id": ids("<bos>")}
    config: dict[str, Any] = {
        "text_config": {
            "vocab_size": len(processor.tokenizer),
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "query_pre_attn_scalar": 32,
            "max_position_embeddings": 1024, "sliding_window": 512,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            **special, "eos_token_id": ids("<eos>"),
        },
        "vision_config": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2,
            "image_size": IMAGE_SIZE, "patch_size": 8, "vision_use_head": False,
        },
        "mm_tokens_per_image": IMAGE_TOKENS,
        "boi_token_index": ids("<start_of_image>"), "eoi_token_index": ids("<end_of_image>"),
        "image_token_index": ids("<image_soft_token>"),
        **special, "eos_token_id": [ids("<eos>"), ids(END_OF_TURN)],
        "tie_word_embeddings": True,
    }  # fmt: skip
    model = Gemma3ForConditionalGeneration(Gemma3Config(**config))
    # transformers initialises the projector to zeros, where nothing reaches the decoder.
    projection = model.model.multi_modal_projector.mm_input_projection_weight
    torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
    model.generation_config.do_sample = False
    return model


@dataclass(frozen=True)
class Pool:
    """Plain phantoms in memory: `pixels` float32 [images, 1, height, width] in -1..1, with their findings."""

    pixels: torch.Tensor
    findings: list[tuple[Finding, ...]]


class Pretrainer:
    """Trains with AdamW, 5 % warm-up and a cosine to zero.

    Args:
        model: the model, changed in place.
        encoder: holds the processor and the prompt that asks for a caption.
        pool: images with their findings.
        corpus: findings that are shown as text alone.
        seed: of the order of all of them.
    """

    def __init__(
        self,
        model: Gemma3ForConditionalGeneration,
        encoder: ReportEncoder,
        pool: Pool,
        corpus: list[tuple[Finding, ...]],
        seed: int,
    ) -> None:
        self.model, self.encoder, self.pool, self.corpus = model.train(), encoder, pool, corpus
        self.tokenizer = encoder.processor.tokenizer
        self.rng = np.random.default_rng(seed)

    def see(self, steps: int, batch: int = 64, lr: float = 2e-3) -> Iterator[float]:
        """Vision tower and projector, by predicting every finding at every place from the image tokens.

        Yields the loss of every step.
        """
        targets = self._targets()  # [images, classes]
        head = torch.nn.Linear(IMAGE_TOKENS * self.model.config.text_config.hidden_size, targets.shape[1])
        vision = [*self.model.model.vision_tower.parameters(), *self.model.model.multi_modal_projector.parameters()]
        for optimiser, indices in self._steps([*vision, *head.parameters()], steps, batch, lr):
            tokens = self.model.model.get_image_features(self._pixels(indices), return_dict=True).pooler_output
            logits = head(tokens.flatten(1))  # [batch, image tokens, hidden] -> [batch, classes]
            loss = functional.binary_cross_entropy_with_logits(logits, targets[indices])
            loss.backward()
            optimiser.step()
            yield loss.item()

    def speak(self, steps: int, batch: int = 32, lr: float = 2e-3) -> Iterator[float]:
        """Everything, on captions of images and, every third step, on text alone: a caption rewritten as a report.

        The text teaches the words of all findings, also of those that no pre-training image shows: adapters
        cannot make up for words whose frozen embedding was never used. Yields the loss of every step.
        """
        for step, (optimiser, indices) in enumerate(self._steps(list(self.model.parameters()), steps, batch, lr)):
            if step % REWRITE_EVERY == REWRITE_EVERY - 1:
                inputs, labels = self._rewrites(batch)
            else:
                inputs, labels = self._captions(indices)
            loss = supervised_loss_sum(self.model, inputs, labels) / (labels != IGNORED).sum()
            loss.backward()
            optimiser.step()
            yield loss.item()

    def _steps(
        self, parameters: list[torch.nn.Parameter], steps: int, batch: int, lr: float
    ) -> Iterator[tuple[torch.optim.Optimizer, np.ndarray]]:
        """For every step the optimiser, with gradients at zero, and the numbers of the step's images."""
        optimiser = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = get_cosine_schedule_with_warmup(optimiser, round(0.05 * steps), steps)
        for _ in range(steps):
            optimiser.zero_grad()
            yield optimiser, self.rng.integers(len(self.pool.findings), size=batch)
            schedule.step()

    def _pixels(self, indices: np.ndarray) -> torch.Tensor:
        return self.pool.pixels[indices].expand(-1, 3, -1, -1)

    def _targets(self) -> torch.Tensor:
        """1 where an image shows a finding at a place: [images, findings at places]."""
        keys = sorted({finding for findings in self.pool.findings for finding in findings}, key=str)
        column = {key: n for n, key in enumerate(keys)}
        targets = torch.zeros(len(self.pool.findings), len(keys))
        for row, findings in enumerate(self.pool.findings):
            for finding in findings:
                targets[row, column[finding]] = 1
        return targets

    def _captions(self, indices: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        prompt = self.encoder.prompt_ids.tolist()
        inputs, labels = self._encode([(prompt, caption(self.pool.findings[i])) for i in indices])
        return inputs | {"pixel_values": self._pixels(indices)}, labels

    def _rewrites(self, batch: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        chosen = [self.corpus[i] for i in self.rng.integers(len(self.corpus), size=batch)]
        return self._encode([(self._text_prompt(f"{REWRITE_PROMPT} {caption(f)}"), write_report(f)) for f in chosen])

    def _encode(self, pairs: list[tuple[list[int], str]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Prompts and answers as model inputs and labels, [batch, tokens] each; padded on the right."""
        ids, labels = [], []
        for prompt, answer in pairs:
            end = self.tokenizer(answer + END_OF_TURN, add_special_tokens=False)["input_ids"]
            ids.append(torch.tensor([*prompt, *end]))
            labels.append(torch.tensor([IGNORED] * len(prompt) + end))
        input_ids = pad_sequence(ids, batch_first=True, padding_value=self.encoder.pad_token_id)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": (input_ids != self.encoder.pad_token_id).long(),
            "token_type_ids": (input_ids == self.encoder.image_token_id).long(),
        }
        return inputs, pad_sequence(labels, batch_first=True, padding_value=IGNORED)

    def _text_prompt(self, prompt: str) -> list[int]:
        """The user's turn without an image, up to where the answer starts."""
        turn = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        text = self.encoder.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
