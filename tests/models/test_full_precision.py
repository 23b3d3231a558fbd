"""Weights to merge into: the size by the architecture alone, and quantised weights written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from transformers import PreTrainedModel

from xrayexp.data.collate import EncodedSample, pad
from xrayexp.models.full_precision import bytes_of, is_stored_quantized, load_dequantized
from xrayexp.models.loading import is_quantized

TINY = "pkg://xrayexp/models/tiny"


@pytest.fixture(scope="module")
def stored(load_tiny: Callable[..., PreTrainedModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantised")
    load_tiny("nf4").save_pretrained(folder)
    return folder


def test_the_size_is_that_of_the_weights(load_tiny: Callable[..., PreTrainedModel], stored: Path) -> None:
    numbers = sum(parameter.numel() for parameter in load_tiny().parameters())
    assert bytes_of(TINY, torch.bfloat16) == 2 * numbers
    assert bytes_of(TINY, torch.float32) == 4 * numbers
    assert bytes_of(str(stored), torch.bfloat16) == 2 * numbers


def test_what_is_stored_quantised_is_known(stored: Path) -> None:
    assert is_stored_quantized(str(stored))
    assert not is_stored_quantized(TINY)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_written_out_weights_compute_what_the_quantised_ones_do(
    load_tiny: Callable[..., PreTrainedModel],
    compose: Callable[..., DictConfig],
    samples: Sequence[EncodedSample],
    quantization: str,
) -> None:
    config = instantiate(compose(f"quantization={quantization}").quantization.config)
    device = torch.device("cpu")
    model = load_dequantized(TINY, quantization=config, dtype=torch.float32, device=device)
    assert not is_quantized(model)
    assert not hasattr(model.config, "quantization_config")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    batch = pad(samples[:2], pad_token_id=0)
    there = batch.inputs["attention_mask"].bool()
    with torch.no_grad():
        plain, rounded, full = (
            m.eval()(**batch.inputs).logits[there] for m in (model, load_tiny(quantization), load_tiny())
        )
    # LLM.int8() rounds activations as well, which the written out weights do not.
    share = {"nf4": 1e-3, "int8": 1.5}[quantization]
    assert (plain - rounded).abs().mean() < share * (full - rounded).abs().mean()


def test_8_bit_weights_are_off_by_half_a_step_at_most(
    load_tiny: Callable[..., PreTrainedModel], compose: Callable[..., DictConfig]
) -> None:
    config = instantiate(compose("quantization=int8").quantization.config)
    model = load_dequantized(TINY, quantization=config, dtype=torch.float32, device=torch.device("cpu"))
    rounded = 0
    for (name, full), weight in zip(load_tiny().named_parameters(), model.parameters(), strict=True):
        step = full.abs().amax(dim=-1, keepdim=True) / 127
        assert ((full - weight).abs() <= 0.6 * step).all(), name  # of a float16
        rounded += int((full != weight).any())
    assert rounded > 30


def test_a_stored_checkpoint_is_written_out_as_it_is(
    stored: Path, compose: Callable[..., DictConfig], load_tiny: Callable[..., PreTrainedModel]
) -> None:
    options = {"dtype": torch.float32, "device": torch.device("cpu")}
    nf4 = instantiate(compose("quantization=nf4").quantization.config)
    here, there = (load_dequantized(name, quantization=nf4, **options) for name in (TINY, str(stored)))  # type: ignore[arg-type]
    for (name, one), other in zip(here.named_parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name)
