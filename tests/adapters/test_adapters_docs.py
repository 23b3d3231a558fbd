"""docs/adapters.md: its table says what the configs and the full-size architecture say."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, Gemma3Config, PreTrainedModel

from tests.adapters.family import METHODS
from xrayexp.adapters.attach import attach_adapter, trainable_parameters
from xrayexp.adapters.config import AdapterSection

DOCS = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
LINES = [[cell.strip() for cell in line.split("|")[1:-1]] for line in DOCS.splitlines() if line.startswith("| `")]
ROWS = {cells[0].strip("`"): cells[1:] for cells in LINES if len(cells) == 6}
LAYERS = 34  # of MedGemma 4B's decoder
ON_MEDGEMMA = ("model=medgemma15", "quantization=none")


@cache
def medgemma(text_layers: int, vision_layers: int) -> PreTrainedModel:
    """Gemma 3 4B's architecture, which is MedGemma's, without weights: so many layers of it at full width."""
    text = {
        "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": text_layers, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208,
    }  # fmt: skip
    vision = {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": vision_layers,
        "num_attention_heads": 16, "image_size": 896, "patch_size": 14, "vision_use_head": False,
    }  # fmt: skip
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(
            Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=256)
        )
    return model


def trained(section: AdapterSection, text_layers: int = 1, vision_layers: int = 1) -> int:
    """Numbers that are trained on an architecture of so many layers."""
    model = copy.deepcopy(medgemma(text_layers, vision_layers))
    if section.name == "shira":  # looks for the entries that it has drawn, which needs real memory
        for layer in model.model.language_model.layers:
            layer.to_empty(device="cpu")
        return trainable_parameters(attach_adapter(model, section, 100))[0]
    with torch.device("meta"):
        return trainable_parameters(attach_adapter(model, section, 100))[0]


def test_every_method_has_a_row() -> None:
    assert sorted(ROWS) == sorted([*METHODS, "none"])


SLOW = {"shira": pytest.param("shira", marks=pytest.mark.slow)}


@pytest.mark.parametrize("method", [*(SLOW.get(method, method) for method in METHODS), "none"])
def test_the_row_says_what_the_config_says(section: Callable[..., AdapterSection], method: str) -> None:
    said, chosen = ROWS[method], section(f"adapter={method}", *ON_MEDGEMMA)
    paper, parameters, quantized, merges, scale = said
    assert re.search(r"https://\S+\d", paper) or method == "none"
    assert quantized.partition(":")[0] == ("yes" if chosen.quantized_base else "no")
    assert merges == "yes"  # tests/adapters/test_family.py merges every method
    assert float(scale) == chosen.lr_scale
    counted = LAYERS * trained(chosen) if method != "none" else 0
    assert int(parameters.replace(",", "")) == counted


@pytest.mark.slow
def test_layers_add_up(section: Callable[..., AdapterSection]) -> None:
    """What is counted on one layer, on the whole model; the language target leaves the vision tower alone."""
    for method in ("lora", "vera", "randlora"):
        chosen = section(f"adapter={method}", *ON_MEDGEMMA)
        assert trained(chosen, LAYERS, 27) == LAYERS * trained(chosen)


def test_the_projector_is_as_large_as_it_is_said_to_be(section: Callable[..., AdapterSection]) -> None:
    chosen = section("adapter=none", "adapter.train_projector=true", *ON_MEDGEMMA)
    with torch.device("meta"):
        count = trainable_parameters(attach_adapter(copy.deepcopy(medgemma(1, 1)), chosen))[0]
    assert f"{count:,} parameters" in DOCS


@pytest.mark.slow
def test_the_whole_model_has_the_published_size() -> None:
    whole: Any = medgemma(LAYERS, 27)
    assert whole.num_parameters() == pytest.approx(4.30e9, rel=1e-3)
