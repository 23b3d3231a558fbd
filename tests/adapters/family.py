"""Every method of conf/adapter, and what their tests do with a model."""

from __future__ import annotations

import torch

from xrayexp.config import config_dir
from xrayexp.data.collate import MicroBatch

METHODS = sorted(path.stem for path in (config_dir() / "adapter").glob("*.yaml") if path.stem != "none")
# Every kind of layer once in each tower: all shapes in a third of the time.
FIRST_LAYERS = r"adapter.target='.*layers\.0\..*(_proj|fc1|fc2)'"
STEPS = 10  # of the training that methods with phases are told of


def logits(model: torch.nn.Module, batch: MicroBatch, *, autocast: bool = False) -> torch.Tensor:
    """Where there is no padding, [tokens, vocabulary], in float32."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out: torch.Tensor = model.eval()(**batch.inputs).logits
    return out[batch.inputs["attention_mask"].bool()].float()


def disturb(model: torch.nn.Module, size: float = 0.05) -> None:
    """Moves everything that is trained, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
