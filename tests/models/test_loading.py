"""Loading: one function for every checkpoint, and 4-bit layers that stay trainable after an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt, Params4bit
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel

import xrayexp
from xrayexp.adapters.attach import base_model
from xrayexp.data.collate import EncodedSample, MicroBatch, pad
from xrayexp.errors import ConfigError
from xrayexp.models.loading import (
    enable_gradient_checkpointing,
    is_quantized,
    load_model,
    load_processor,
    resolve_pretrained,
)
from xrayexp.training.loss import supervised_loss_sum

Load = Callable[..., PreTrainedModel]
LANGUAGE = r".*language_model.*\.(q_proj|v_proj|down_proj)"
EVERYTHING = r".*\.(q_proj|v_proj|fc1|down_proj)"


@pytest.fixture(scope="module")
def batch(samples: Sequence[EncodedSample]) -> MicroBatch:
    return pad(samples[:3], pad_token_id=0)


@pytest.fixture(scope="module")
def stored(load_tiny: Load, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose checkpoint is quantised already."""
    folder = tmp_path_factory.mktemp("quantised")
    load_tiny("nf4").save_pretrained(folder)
    return folder


def with_adapter(model: PreTrainedModel, targets: str = EVERYTHING) -> PeftModel:
    """Adapters whose second matrix is not zero, so that gradients reach the first one too."""
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    assert isinstance(adapted, PeftModel)
    return adapted.train()


def gradients(model: PeftModel, batch: MicroBatch) -> dict[str, torch.Tensor]:
    """Of one training step."""
    model.zero_grad()
    supervised_loss_sum(base_model(model), batch.inputs, batch.labels).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def evaluate(model: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
    """Logits as validation computes them, [batch, tokens, vocabulary]."""
    mode = model.training
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(**batch.inputs).logits
    model.train(mode)
    return logits


def layers_of(model: torch.nn.Module, kind: type[torch.nn.Module]) -> list[torch.nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_a_package_path_is_a_folder_and_everything_else_is_left_alone() -> None:
    folder = Path(resolve_pretrained("pkg://xrayexp/models/tiny"))
    assert folder == Path(xrayexp.__file__).parent / "models" / "tiny"
    assert (folder / "config.json").is_file()
    for pretrained in ("google/medgemma-1.5-4b-it", "/somewhere/here", "relative/folder"):
        assert resolve_pretrained(pretrained) == pretrained


def test_the_embedded_model_is_a_small_gemma_3(load_tiny: Load) -> None:
    model = load_tiny()
    assert type(model).__name__ == "Gemma3ForConditionalGeneration"
    assert 0.2e6 < model.num_parameters() < 0.4e6
    folder = Path(resolve_pretrained("pkg://xrayexp/models/tiny"))
    assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) <= 2e6
    assert type(load_processor("pkg://xrayexp/models/tiny")).__name__ == "Gemma3Processor"


def test_nothing_requires_a_gradient(load_tiny: Load) -> None:
    for quantization in ("none", "nf4"):
        assert not any(parameter.requires_grad for parameter in load_tiny(quantization).parameters())


def test_nf4_is_four_bits_with_quantised_scales(load_tiny: Load) -> None:
    full, model = load_tiny(), load_tiny("nf4")
    layers = layers_of(model, Linear4bit)
    output_layer = 1
    assert len(layers) == len(layers_of(full, torch.nn.Linear)) - output_layer
    names = dict(model.named_modules())
    assert sum("vision_tower" in name for name, module in names.items() if module in layers) > 10
    for layer in layers:
        assert isinstance(layer, Linear4bit)
        state: Any = layer.weight.quant_state  # type: ignore[attr-defined]
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() * 2 == layer.in_features * layer.out_features
        assert state.quant_type == "nf4"
        assert state.nested
        assert layer.compute_dtype == torch.float32
    assert is_quantized(model)
    assert not is_quantized(full)


def test_quantising_moves_the_logits_a_little(load_tiny: Load, batch: MicroBatch) -> None:
    exact, rounded = evaluate(load_tiny(), batch), evaluate(load_tiny("nf4"), batch)
    there = batch.inputs["attention_mask"].bool()
    difference = (exact - rounded)[there]
    assert difference.abs().max() > 0
    assert difference.norm() < 0.5 * exact[there].norm()


def test_int8_and_none_load(load_tiny: Load, batch: MicroBatch) -> None:
    eight = load_tiny("int8")
    assert layers_of(eight, Linear8bitLt)
    assert is_quantized(eight)
    assert evaluate(eight, batch).isfinite().all()
    assert not layers_of(load_tiny("none"), Linear4bit)


def test_weights_outside_4_bit_layers_have_the_asked_type() -> None:
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = load_model("pkg://xrayexp/models/tiny", quantization=nf4, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert {layer.compute_dtype for layer in layers_of(model, Linear4bit)} == {torch.bfloat16}


def test_a_checkpoint_that_is_quantised_already_is_loaded_as_it_is(
    load_tiny: Load, stored: Path, batch: MicroBatch
) -> None:
    model = load_tiny("nf4", str(stored))
    assert len(layers_of(model, Linear4bit)) == len(layers_of(load_tiny("nf4"), Linear4bit))
    assert not layers_of(model, Linear8bitLt)
    torch.testing.assert_close(evaluate(model, batch), evaluate(load_tiny("nf4"), batch))


def test_a_stored_checkpoint_of_another_type_is_trained_in_the_asked_type(tmp_path: Path, batch: MicroBatch) -> None:
    """transformers casts the biases of such a checkpoint and leaves its other weights as they were stored."""
    options: dict[str, Any] = {
        "quantization": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        "device": torch.device("cpu"),
    }
    load_model("pkg://xrayexp/models/tiny", dtype=torch.bfloat16, **options).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), dtype=torch.float32, **options)
    unquantized = [p for p in model.parameters() if not isinstance(p, Params4bit)]
    assert {parameter.dtype for parameter in unquantized} == {torch.float32}
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert gradients(with_adapter(model), batch)


@pytest.mark.parametrize("other", ["none", "int8"])
def test_a_stored_quantisation_cannot_be_changed(load_tiny: Load, stored: Path, other: str) -> None:
    with pytest.raises(ConfigError, match=r"stored quantised.*quantization=nf4"):
        load_tiny(other, str(stored))


@pytest.mark.parametrize("from_folder", [False, True])
def test_no_4_bit_layer_may_repack_its_weights(load_tiny: Load, stored: Path, from_folder: bool) -> None:
    layers = layers_of(load_tiny("nf4", str(stored) if from_folder else None), Linear4bit)
    assert layers
    assert {layer.support_avx512bf16_for_cpu for layer in layers} == {False}


def test_an_evaluation_leaves_gradients_and_logits_as_they_were(load_tiny: Load, batch: MicroBatch) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes would repack the weights: gradients become zero without a word."""
    model = with_adapter(load_tiny("nf4"))
    before = gradients(model, batch)
    logits = evaluate(model, batch)
    after = gradients(model, batch)
    first = [name for name in before if ".layers.0." in name]
    assert any("vision_tower" in name for name in first)
    assert any("language_model" in name for name in first)
    for name in first:
        assert before[name].abs().max() > 0
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient)
    torch.testing.assert_close(evaluate(model, batch), logits)


def test_a_width_that_64_does_not_divide(tmp_path: Path, load_tiny: Load, batch: MicroBatch) -> None:
    config = AutoConfig.from_pretrained(resolve_pretrained("pkg://xrayexp/models/tiny"))
    config.text_config.hidden_size = 96
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    model = load_tiny("nf4", str(tmp_path))
    assert 96 in {layer.in_features for layer in layers_of(model, Linear4bit)}
    first = evaluate(model, batch)
    assert first.isfinite().all()
    torch.testing.assert_close(evaluate(model, batch), first)
    adapted = with_adapter(model)
    assert all(gradient.isfinite().all() for gradient in gradients(adapted, batch).values())


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_checkpointing_changes_no_number_and_spares_the_frozen_vision_tower(
    load_tiny: Load, batch: MicroBatch, quantization: str
) -> None:
    model = with_adapter(load_tiny(quantization), LANGUAGE)
    base = base_model(model)
    plain = gradients(model, batch)
    assert all("language_model" in name for name in plain)
    seen: list[torch.Tensor] = []
    forwards: list[str] = []
    tower = next(m for n, m in base.named_modules() if n.endswith("vision_tower"))
    mlp = next(m for n, m in base.named_modules() if n.endswith("language_model.layers.1.mlp"))
    tower.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state))
    mlp.register_forward_hook(lambda module, args, output: forwards.append("again"))

    enable_gradient_checkpointing(base)
    recomputed = gradients(model, batch)
    assert len(forwards) == 2, "activations were kept, not recomputed"
    assert len(seen) == 1
    assert not seen[0].requires_grad
    assert recomputed.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient)


def test_checkpointing_still_trains_a_vision_tower_that_is_not_frozen(load_tiny: Load, batch: MicroBatch) -> None:
    model = with_adapter(load_tiny("nf4"))
    plain = gradients(model, batch)
    enable_gradient_checkpointing(base_model(model))
    recomputed = gradients(model, batch)
    assert any("vision_tower" in name for name in recomputed)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient)
