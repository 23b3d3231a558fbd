"""What a training step computes, and what a card can: the share that is reached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from xrayexp.adapters.attach import base_model

if TYPE_CHECKING:
    from peft import PeftModel

    from xrayexp.memory.step import StepShape

# Dense bfloat16 products that are summed in float32, in 10^12 operations a second: NVIDIA's data sheets. The first name
# that occurs in a card's counts.
PEAK_TFLOPS = {
    "H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0,
    "A100": 312.0, "L40S": 362.0, "L4": 121.0, "A10": 125.0,
    "RTX 4090": 165.0, "RTX 3090": 71.0,
}  # fmt: skip


def peak_tflops(card: str) -> float | None:
    """Of a card by the name that CUDA gives it; None where it is not in the table."""
    return next((peak for name, peak in PEAK_TFLOPS.items() if re.search(rf"\b{name}\b", card)), None)


def operations(model: PeftModel, shape: StepShape) -> float:
    """Floating-point operations that forward and backward pass of one micro-batch need: 2 for every multiply-add.

    Counted are linear layers, attention with all its positions, and the logits of supervised tokens; of the backward
    pass what frozen weights hand on, which is as much as their forward pass, and twice that for what is trained. What
    checkpointing and chunks compute again is no progress, and not counted. Below the lowest adapter there is no
    backward pass: a vision tower without one is passed once.
    """
    base: Any = base_model(model)
    text, vision = base.config.get_text_config(), base.config.vision_config
    frozen, trained = {True: 0, False: 0}, {True: 0, False: 0}  # numbers in linear layers, by whether the tower's
    head = base.get_output_embeddings()
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head and not module.weight.requires_grad:
            frozen["vision_tower" in name] += module.in_features * module.out_features
    for name, parameter in base.named_parameters():
        if parameter.requires_grad:
            trained["vision_tower" in name] += parameter.numel()
    patches = (vision.image_size // vision.patch_size) ** 2
    positions = {True: shape.samples * patches, False: shape.samples * shape.tokens}
    total: float = 2 * 2 * text.hidden_size * text.vocab_size * shape.samples * shape.supervised
    for tower, attended in (
        (True, patches * vision.hidden_size * vision.num_hidden_layers),
        (False, shape.tokens * text.num_attention_heads * text.head_dim * text.num_hidden_layers),
    ):
        passes = 1 if tower and not trained[tower] else 2  # through frozen weights
        total += positions[tower] * (2 * passes * frozen[tower] + 6 * trained[tower])
        total += positions[tower] * 4 * attended * (2 * passes - 1)  # two products forward, four backward
    return total
