"""Which tokens see which, made at once for all layers of a step.

transformers builds the mask of sliding layers token by token under `torch.vmap`: 25 ms of Python a micro-batch on this
project's machines, a fifth of the tiny model's step, and twice the memory where no sample is as long as the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def with_attention_masks(model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, Any]:
    """The model's keyword arguments with its masks in place of the `attention_mask` that marks padding.

    Other models than Gemma 3, and other attention than `sdpa`, which want other masks, get what they were given.

    Args:
        model: a vision-language model, that nothing is cached for.
        inputs: its keyword arguments; `attention_mask` and `token_type_ids` are [batch, tokens].
    """
    text: Any = model.config.get_text_config()
    if model.config.model_type != "gemma3" or text._attn_implementation != "sdpa" or text.use_bidirectional_attention:
        return inputs
    masks = gemma3_masks(inputs["attention_mask"], inputs["token_type_ids"], text.sliding_window)
    return {**inputs, "attention_mask": masks}


def gemma3_masks(real: torch.Tensor, types: torch.Tensor, window: int) -> dict[str, torch.Tensor]:
    """By kind of layer: whether a token (third axis) sees another (fourth), bool [batch, 1, tokens, tokens].

    A token sees what is before it; one of an image also the rest of its image. In sliding layers it sees nothing that
    is `window` tokens or more before it. Nobody sees padding.

    Args:
        real: [batch, tokens], 0 at padding.
        types: [batch, tokens], 1 at image tokens.
        window: of sliding layers, in tokens.
    """
    tokens = real.shape[1]
    image = types == 1
    begins = image & ~functional.pad(image, (1, 0))[:, :-1]
    number = torch.where(image, begins.cumsum(dim=1), 0)  # of a token's image, from 1 on
    together = (number[:, :, None] == number[:, None, :]).logical_and_(image[:, None, :])
    before = torch.ones(tokens, tokens, dtype=torch.bool, device=real.device).tril_()
    sees = together.logical_or_(before).logical_and_(real[:, None, :].bool())[:, None]  # [batch, 1, tokens, tokens]
    masks = {"full_attention": sees, "sliding_attention": sees}
    if tokens > window:
        masks["sliding_attention"] = sees & ~torch.ones_like(before).tril_(-window)
    return masks
