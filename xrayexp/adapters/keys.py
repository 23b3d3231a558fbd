"""Names of tensors in adapter files, across releases of transformers.

The same layer is `language_model.model.layers.0` in a model built by transformers up to 4.51,
`model.language_model.layers.0` since then; the vision tower's layers stand below `vision_tower.vision_model` up to
transformers 5, and in `vision_tower` itself later. PEFT writes the names of the model at hand.
"""

from __future__ import annotations

import re

import torch

# What stands before the parts of a Gemma 3 model, in any release.
_PREFIXES = (
    r"^(?:model\.)?language_model\.(?:model\.)?(?=layers\.|embed_tokens|norm\b)",
    r"^(?:model\.)?vision_tower\.(?:vision_model\.)?(?=encoder\.|embeddings\.|post_layernorm)",
    r"^(?:model\.)?(?=multi_modal_projector\b)",
    r"^(?:language_model\.)?(?=lm_head\b)",
)


def key_mapping(model: torch.nn.Module) -> dict[str, str]:
    """Regular expressions of names in adapter files, and what `model` has in their place: PEFT's `key_mapping`.

    Args:
        model: the base model, without an adapter.
    """
    names = [name for name, _ in model.named_modules()]
    found = {prefix: next((m for name in names if (m := re.match(prefix, name))), None) for prefix in _PREFIXES}
    return {prefix: match.group() for prefix, match in found.items() if match}


def mapped(name: str, mapping: dict[str, str]) -> str:
    """`name`, without PEFT's own prefix, as the model with that mapping has it."""
    for pattern, replacement in mapping.items():
        name, replaced = re.subn(pattern, replacement, name)
        if replaced:
            break
    return name
