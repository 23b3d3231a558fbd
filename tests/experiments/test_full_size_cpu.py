"""The study of the full size, with its vocabulary and nothing else of that size: one narrow layer, small images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.full_size_cpu.model import architecture, build
from experiments.full_size_cpu.prediction import predict
from experiments.full_size_cpu.runs import COMMAND, STEPS
from experiments.full_size_cpu.witness import gradients
from experiments.results import Values
from tests.conftest import Compose
from xrayexp.models.loading import load_processor
from xrayexp.models.skeleton import load_config

VOCABULARY, IMAGE_TOKENS = 262_208, 16

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Values]:
    """The folder of a model and what `build` says of it."""
    config: Any = architecture(1)
    for part in (config.text_config, config.vision_config):
        part.hidden_size, part.intermediate_size, part.num_attention_heads = 32, 64, 2
    config.text_config.head_dim, config.text_config.num_key_value_heads = 16, 1
    config.vision_config.image_size, config.mm_tokens_per_image = 56, IMAGE_TOKENS
    folder = tmp_path_factory.mktemp("full-size") / "model"
    return folder, build(folder, config)


@pytest.fixture(scope="module")
def overrides(built: tuple[Path, Values]) -> list[str]:
    return [*COMMAND, "adapter=dora", "trainer.precision=bf16-mixed", f"model.pretrained={built[0]}"]


@pytest.fixture(scope="module")
def seen(overrides: list[str], compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Values:
    """What the witness of a run saw."""
    from xrayexp import pipeline

    file = tmp_path_factory.mktemp("seen") / "seen.json"
    witness = "+callbacks.witness._target_=experiments.full_size_cpu.witness.Witness"
    pipeline.train(compose(*overrides, witness, f"+callbacks.witness.file={file}"))
    values: Values = json.loads(file.read_text())
    return values


def test_the_model_is_as_deep_as_asked_and_ends_with_a_global_layer() -> None:
    whole, few = architecture(None), architecture(4)
    assert (whole.text_config.num_hidden_layers, whole.vision_config.num_hidden_layers) == (34, 27)
    assert (few.text_config.num_hidden_layers, few.vision_config.num_hidden_layers) == (4, 4)
    assert few.text_config.layer_types == [*["sliding_attention"] * 3, "full_attention"]


def test_the_folder_holds_a_model_and_the_tokenizer_that_it_was_made_for(built: tuple[Path, Values]) -> None:
    folder, values = built
    config: Any = load_config(str(folder), None)
    processor: Any = load_processor(str(folder))
    assert values["vocabulary"] == config.text_config.vocab_size == VOCABULARY
    assert config.quantization_config["load_in_4bit"]
    assert config.image_token_id == processor.tokenizer.image_token_id
    assert processor.image_seq_length == IMAGE_TOKENS
    assert values["disk_gib"] > values["footprint_gib"] > 0


def test_a_run_leaves_a_gradient_on_the_adapter_alone(seen: Values) -> None:
    assert len(seen["steps"]) == STEPS
    for step in seen["steps"]:
        assert step["adapter"] == step["with_gradient"] == step["finite"] > 0
        assert step["others"] == 0
        assert step["supervised"] < step["tokens"] - IMAGE_TOKENS
        assert step["peak_gib"] > seen["before_gib"] > 0
    assert seen["steps"][0]["not_zero"] < seen["steps"][-1]["not_zero"] == seen["steps"][-1]["adapter"]


def test_what_the_witness_would_have_seen() -> None:
    model = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1, bias=False) for name in ("good", "none", "nan", "base")})
    for name, value in {"good": 1.0, "nan": float("nan"), "base": 1.0}.items():
        model[name].weight.grad = torch.full((1, 1), value)
    model["base"].requires_grad_(False)
    counted = gradients(model)
    assert counted == {"adapter": 3, "with_gradient": 2, "finite": 1, "not_zero": 2, "others": 1}


def test_the_prediction_counts_weights_and_step(overrides: list[str], built: tuple[Path, Values], seen: Values) -> None:
    step = seen["steps"][-1]
    found = predict(overrides, step["tokens"], step["supervised"])
    assert found["peak_gib"] == pytest.approx(sum(found["parts_gib"].values()))
    assert found["peak_gib"] > built[1]["footprint_gib"]
    assert found["parts_gib"]["embeddings"] * 2**30 == pytest.approx(VOCABULARY * 32 * 2, rel=0.01)
