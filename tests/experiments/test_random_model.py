"""A random model is what the loader makes of its saved copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Params4bit
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel

from experiments.random_model import random_model
from xrayexp.data.collate import EncodedSample, pad
from xrayexp.models.loading import load_model
from xrayexp.models.skeleton import load_config

TINY = "pkg://xrayexp/models/tiny"
CPU = torch.device("cpu")


def quantization(name: str) -> BitsAndBytesConfig | None:
    if name == "none":
        return None
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)


def make(name: str, dtype: torch.dtype, seed: int = 0) -> PreTrainedModel:
    return random_model(load_config(TINY, None), quantization=quantization(name), dtype=dtype, device=CPU, seed=seed)


def form(model: PreTrainedModel) -> dict[str, tuple[Any, ...]]:
    """What every tensor and every layer is, but for the numbers."""
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers()),
               **model.state_dict()}  # fmt: skip
    kinds = {name: (type(module),) for name, module in model.named_modules()}
    return kinds | {f"{name} ": _form(tensor) for name, tensor in tensors.items()}


def _form(tensor: torch.Tensor) -> tuple[Any, ...]:
    state: Any = getattr(tensor, "quant_state", None) if isinstance(tensor, Params4bit) else None
    packed = None if state is None else (state.quant_type, state.dtype, state.nested, state.shape, state.blocksize)
    return type(tensor), tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad, packed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["nf4", "none"])
def test_the_loader_brings_it_back(
    name: str, dtype: torch.dtype, samples: Sequence[EncodedSample], tmp_path: Path
) -> None:
    model = make(name, dtype)
    assert not [key for key, tensor in model.state_dict().items() if tensor.is_meta]
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), quantization=quantization(name), dtype=dtype, device=CPU)
    assert form(model) == form(loaded)
    assert model.get_memory_footprint() == loaded.get_memory_footprint()
    inputs = pad(samples[:2], pad_token_id=0).inputs
    with torch.no_grad():
        here, there = model(**inputs).logits, loaded(**inputs).logits
    assert torch.isfinite(here).all()
    assert torch.equal(here, there)


def test_buffers_are_those_of_a_model_built_as_usual_and_the_head_is_the_embedding() -> None:
    config: Any = load_config("pkg://xrayexp/models/architectures/gemma3_4b", None)  # with scaled frequencies
    for part in (config.text_config, config.vision_config):
        part.num_hidden_layers, part.hidden_size, part.intermediate_size = 1, 32, 32
    config.text_config.layer_types, config.text_config.vocab_size = ["full_attention"], 64
    config.text_config.pad_token_id = 0
    usual = AutoModelForImageTextToText.from_config(config)
    model = random_model(config, quantization=None, dtype=torch.float32, device=CPU)
    for (name, ours), (_, theirs) in zip(model.named_buffers(), usual.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_image_matters_and_so_does_the_seed(samples: Sequence[EncodedSample]) -> None:
    inputs = pad(samples[:1], pad_token_id=0).inputs
    black = inputs | {"pixel_values": torch.zeros_like(inputs["pixel_values"])}
    one, same, other = make("nf4", torch.float32), make("nf4", torch.float32), make("nf4", torch.float32, seed=1)
    with torch.no_grad():
        logits = one(**inputs).logits
        assert torch.equal(logits, same(**inputs).logits)
        assert not torch.equal(logits, other(**inputs).logits)
        assert not torch.equal(logits, one(**black).logits)


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    make("nf4", torch.float32)
    assert torch.equal(torch.rand(1), expected)
