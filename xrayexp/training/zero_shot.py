"""Asks any Hugging Face image-text-to-text model about images, through its own processor and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xrayexp.data.images import pad_to_square
from xrayexp.errors import UserError
from xrayexp.training.generation import Generated, Writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xrayexp.training.sampling import Sampling


class Asker:
    """One model and one question.

    Images are padded to squares first: many processors resize without keeping the aspect ratio, and box conventions
    refer to the square (see `xrayexp.data.boxes`).

    Args:
        model: in evaluation mode.
        processor: with a chat template.
        question: what the user asks beside every image.
        max_new_tokens: where an answer that does not end is cut off.
        sampling: answers at random beside the likeliest one; None for none.

    Raises:
        UserError: the processor has no chat template, so that nobody knows how the model wants to be asked.
    """

    def __init__(
        self, model: Any, processor: Any, question: str, max_new_tokens: int, sampling: Sampling | None = None
    ) -> None:
        if not getattr(processor, "chat_template", None):
            raise UserError(
                "this model has no chat template: choose an instruction-tuned one, such as google/medgemma-1.5-4b-it"
            )
        self.model, self.processor, self.max_new_tokens, self.sampling = model, processor, max_new_tokens, sampling
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"  # generation goes on at the right
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        content = [{"type": "image"}, {"type": "text", "text": question}]
        self._prompt = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        # Some templates begin with <bos> themselves.
        begins = tokenizer.bos_token is not None and self._prompt.startswith(tokenizer.bos_token)
        self._add_special_tokens = not begins
        configured = model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self.ends = {end for end in (*ends, tokenizer.eos_token_id) if end is not None}

    def ask(self, images: Sequence[NDArray[np.uint8]], image_ids: Sequence[str]) -> list[Generated]:
        """The answers about some images, together.

        Args:
            images: [height, width] each.
            image_ids: of them; answers at random depend on these.

        Raises:
            UserError: they are more than the device has room for.
        """
        from PIL import Image

        pictures = [Image.fromarray(pad_to_square(image)).convert("RGB") for image in images]
        prompts = [self._prompt] * len(pictures)
        inputs = self.processor(
            text=prompts,
            images=[[picture] for picture in pictures],
            padding=True,
            add_special_tokens=self._add_special_tokens,
            return_tensors="pt",
        )
        moved = {name: self._moved(value) for name, value in inputs.items()}
        try:
            writer = Writer(self.model, moved, self.processor.tokenizer, self.ends, self.max_new_tokens)
            return writer.answers(image_ids, self.sampling)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"out of memory with {len(images)} images asked about together: lower batch_size, or choose "
                "quantization=nf4"
            ) from error

    def _moved(self, value: torch.Tensor) -> torch.Tensor:
        on_device = value.to(self.model.device)
        return on_device.to(self.model.dtype) if on_device.is_floating_point() else on_device
