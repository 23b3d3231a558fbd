"""DeLoRA on quantised layers is PEFT's DeLoRA on the numbers that they stand for."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.nn.modules import Int8Params, Linear4bit, Linear8bitLt, Params4bit
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import DeloraConfig, LoraConfig, PeftModel, PeftType, get_peft_model, get_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.delora import DeloraLinear, DeloraModel
from torch import Tensor

from xrayexp.adapters.delora import QuantizedDeloraLinear, quantized_delora

IN, OUT = 128, 96
STORAGE = [("4bit", torch.uint8), ("4bit", torch.bfloat16), ("8bit", torch.uint8)]


def net(kind: str, storage: torch.dtype, dtype: torch.dtype, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    weight = (0.05 * torch.randn(OUT, IN, generator=generator)).to(dtype)
    layer: Any
    if kind == "4bit":
        layer = Linear4bit(
            IN, OUT, bias=True, compute_dtype=dtype, quant_type="nf4", quant_storage=storage,
        )  # fmt: skip
        layer.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", quant_storage=storage)
        layer.support_avx512bf16_for_cpu = False
    else:
        layer = Linear8bitLt(IN, OUT, bias=True, has_fp16_weights=False)
        layer.weight = Int8Params(weight, requires_grad=False)
    layer.bias = torch.nn.Parameter(torch.randn(OUT, generator=generator).to(dtype))
    whole: Any = torch.nn.Sequential()
    whole.add_module("layer", layer.to("cpu"))
    return whole.requires_grad_(False)


def numbers(layer: Any) -> Any:
    """What the quantised weight stands for, [OUT, IN]."""
    if type(layer).__name__ == "Linear4bit":
        return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    scales = layer.weight.SCB if layer.state.SCB is None else layer.state.SCB
    return bnb.functional.int8_vectorwise_dequant(layer.weight.data, scales)


def dequantized(quantized: Any) -> Any:
    """The same net on plain layers."""
    [layer] = quantized
    weight = numbers(layer)
    plain: Any = torch.nn.Linear(IN, OUT, dtype=weight.dtype)
    plain.weight.data, plain.bias.data = weight, layer.bias.data.clone()
    whole: Any = torch.nn.Sequential()
    whole.add_module("layer", plain)
    return whole.requires_grad_(False)


def adapted(base: torch.nn.Module, rank: int = 8, seed: int = 0) -> PeftModel:
    """With an adapter that is no longer at its start."""
    torch.manual_seed(seed)
    with quantized_delora():
        model = get_peft_model(base, DeloraConfig(r=rank, target_modules=["layer"]))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "delora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def run(model: torch.nn.Module, dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 10, IN, generator=generator).to(dtype).requires_grad_()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = model(x)
    y.backward(torch.randn(y.shape, generator=generator).to(y.dtype))
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad} | {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@settings(max_examples=15, deadline=None)
@given(
    rank=st.integers(1, 24),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    storage=st.sampled_from([torch.uint8, torch.bfloat16]),
)
def test_on_4bit_it_is_exactly_that_of_peft_on_the_dequantised_weight(
    rank: int, seed: int, dtype: torch.dtype, storage: torch.dtype
) -> None:
    quantized = net("4bit", storage, dtype, seed)
    stock = adapted(dequantized(quantized), rank, seed)
    model = adapted(quantized, rank, seed)
    kinds = [type(layer) for layer in (*model.modules(), *stock.modules()) if isinstance(layer, DeloraLinear)]
    assert kinds == [QuantizedDeloraLinear, DeloraLinear]
    ours, theirs = get_peft_model_state_dict(model), get_peft_model_state_dict(stock)
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0)
    found, expected = run(model, dtype), run(stock, dtype)
    assert list(found) == list(expected)
    assert len(found) == 5
    for name, tensor in expected.items():
        assert tensor.abs().max() > 0
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_on_8bit_it_is_that_of_peft_on_the_dequantised_weight() -> None:
    quantized = net("8bit", torch.uint8, torch.float32)
    stock = adapted(dequantized(quantized))
    found, expected = run(adapted(quantized), torch.float32), run(stock, torch.float32)
    assert list(found) == list(expected)
    for name, tensor in expected.items():  # bitsandbytes multiplies by the scales in another order
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind, storage", STORAGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_are_float32_and_finite(kind: str, storage: torch.dtype, dtype: torch.dtype) -> None:
    """In weights stored as bfloat16 PEFT finds one norm, and it is NaN."""
    model = adapted(net(kind, storage, dtype))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    norms = get_peft_model_state_dict(model)["base_model.model.layer.delora_w_norm"]
    assert norms.shape == (IN,)
    assert all(tensor.isfinite().all() for tensor in run(model, dtype).values())


@pytest.mark.parametrize("kind, storage", STORAGE)
def test_merging_requantises_the_sum(kind: str, storage: torch.dtype) -> None:
    model = adapted(net(kind, storage, torch.float32))
    layer: Any
    [layer] = [module for module in model.modules() if isinstance(module, QuantizedDeloraLinear)]
    before = numbers(layer.get_base_layer())
    delta = layer.get_delta_weight("default").detach()
    step = 0.2 if kind == "4bit" else 0.01  # of the largest number in a block
    assert delta.abs().max() > 0.01
    model.merge_adapter(safe_merge=True)
    assert layer.merged
    merged = numbers(layer.get_base_layer())
    torch.testing.assert_close(merged, before + delta, rtol=0, atol=step * float((before + delta).abs().max()))
    x = torch.randn(3, IN)
    torch.testing.assert_close(model(x), x @ merged.t() + layer.get_base_layer().bias, rtol=1e-4, atol=0.05)
    model.unmerge_adapter()
    assert not layer.merged
    back = numbers(layer.get_base_layer())
    torch.testing.assert_close(back, before, rtol=0, atol=2 * step * float((before + delta).abs().max()))
    assert (back - before).norm() < 0.5 * delta.norm()
    assert isinstance(layer.get_base_layer(), Linear4bit | Linear8bitLt)


@pytest.mark.parametrize("kind, storage", STORAGE)
def test_several_adapters_copies_and_switching_off(kind: str, storage: torch.dtype) -> None:
    base = net(kind, storage, torch.float32)
    x = torch.randn(3, IN)
    plain = copy.deepcopy(base)(x)
    model = adapted(base)
    first = model(x)
    model.add_adapter("other", DeloraConfig(r=4, target_modules=["layer"]))  # outside of quantized_delora
    torch.testing.assert_close(model(x), first, rtol=0, atol=0)
    model.set_adapter("other")
    torch.testing.assert_close(model(x), plain, rtol=0, atol=0)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), plain, rtol=0, atol=0)
    twin = copy.deepcopy(model)
    twin.set_adapter("default")
    torch.testing.assert_close(twin(x), first, rtol=0, atol=0)


def test_peft_is_as_before_afterwards() -> None:
    with quantized_delora():
        other = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), LoraConfig(target_modules=["0"]))
    assert PEFT_TYPE_TO_TUNER_MAPPING[PeftType.DELORA] is DeloraModel
    with pytest.raises(ZeroDivisionError), quantized_delora():
        _ = 1 / 0
    assert PEFT_TYPE_TO_TUNER_MAPPING[PeftType.DELORA] is DeloraModel
    assert "lora.Linear" in repr(other)


def test_the_interface_of_peft_is_the_one_that_was_overridden() -> None:
    """A release of PEFT that changes it must be looked at; and that works without this, so that it can go."""
    create = inspect.signature(DeloraModel._create_new_module)
    assert list(create.parameters) == ["delora_config", "adapter_name", "target", "kwargs"]
    with pytest.raises(RuntimeError):
        get_peft_model(net("4bit", torch.uint8, torch.float32), DeloraConfig(target_modules=["layer"]))
