"""A layer with a DoRA adapter, PEFT's or factored, and how their numbers are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.nn.modules import Int8Params, Linear4bit, Linear8bitLt, Params4bit
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor

from xrayexp.adapters.dora import factor_dora

KINDS = ("4bit", "8bit", "plain")
BF16, FP32, FP64 = torch.bfloat16, torch.float32, torch.float64


@dataclass(frozen=True)
class Case:
    """One layer with an adapter that is no longer at its start, and what goes in and comes back."""

    inside: int
    outside: int
    rank: int
    rows: int
    seed: int
    kind: str = "4bit"
    bias: bool = False
    dropout: float = 0.0
    rslora: bool = False
    dtype: torch.dtype = FP32

    def random(self, *shape: int, stream: int, dtype: torch.dtype | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + stream)
        return torch.randn(shape, generator=generator).to(dtype or self.dtype)

    def base(self) -> Any:
        weight = (0.05 * self.random(self.outside, self.inside, stream=0, dtype=FP32)).to(self.dtype)
        bias = self.random(self.outside, stream=1) if self.bias else None
        layer: Any
        if self.kind == "4bit":
            layer = Linear4bit(self.inside, self.outside, bias=self.bias, compute_dtype=self.dtype, quant_type="nf4")
            layer.weight = Params4bit(weight, requires_grad=False, quant_type="nf4")
            layer.support_avx512bf16_for_cpu = False
        elif self.kind == "8bit":
            layer = Linear8bitLt(self.inside, self.outside, bias=self.bias, has_fp16_weights=False)
            layer.weight = Int8Params(weight, requires_grad=False)
        else:
            layer = torch.nn.Linear(self.inside, self.outside, bias=self.bias)
            layer.weight = torch.nn.Parameter(weight)
        if bias is not None:
            layer.bias = torch.nn.Parameter(bias)
        return layer.to("cpu").requires_grad_(False)

    def config(self, **options: Any) -> LoraConfig:
        return LoraConfig(
            r=self.rank, lora_alpha=8, target_modules=["layer"], lora_dropout=self.dropout,
            use_rslora=self.rslora, **{"use_dora": True} | options,
        )  # fmt: skip

    def model(self, factored: bool, **options: Any) -> PeftModel:
        net: Any = torch.nn.Sequential()
        net.add_module("layer", self.base())
        net.is_loaded_in_4bit = self.kind == "4bit"
        net.is_loaded_in_8bit = self.kind == "8bit"
        torch.manual_seed(self.seed)  # for A
        model = get_peft_model(net, self.config(**options))
        self.move(model)
        if factored:
            assert factor_dora(model) == 1
        return model

    def move(self, model: torch.nn.Module) -> None:
        """Takes the adapter away from its start: B of B A's size, magnitudes by up to tens of per cent."""
        layer = lora_layer(model)
        with torch.no_grad():
            for number, name in enumerate(layer.lora_B):
                b = layer.lora_B[name].weight
                b.copy_(0.1 * self.random(*b.shape, stream=10 + number))
                if name in layer.lora_magnitude_vector:
                    m = layer.lora_magnitude_vector[name].weight
                    m.mul_(1 + 0.1 * self.random(*m.shape, stream=20 + number).clamp(-3, 3))

    def x(self) -> Tensor:
        return self.random(2, self.rows, self.inside, stream=2)

    def run(self, model: torch.nn.Module, autocast: bool = False, call: Any = None) -> dict[str, Tensor]:
        """Output and gradients."""
        x = self.x().requires_grad_()
        model.zero_grad()
        torch.manual_seed(self.seed)  # for dropout
        with torch.autocast("cpu", BF16, enabled=autocast):
            y = (model if call is None else call)(x)
        y.backward(self.random(*y.shape, stream=3).to(y.dtype))
        gradients = {name.split(".")[-3]: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert x.grad is not None
        return {"y": y.detach(), "x": x.grad} | gradients


CASES = st.builds(
    Case,
    inside=st.integers(1, 6).map(lambda n: 32 * n),
    outside=st.integers(1, 6).map(lambda n: 32 * n),
    rank=st.integers(1, 24),
    rows=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    bias=st.booleans(),
    rslora=st.booleans(),
)
FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CASE = Case(inside=128, outside=192, rank=8, rows=20, seed=3)


def lora_layer(model: torch.nn.Module) -> Any:
    [layer] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return layer


def error(found: Tensor, expected: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    found, expected = found.detach(), expected.detach()
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def require_equal(
    found: dict[str, Tensor], expected: dict[str, Tensor], y: float = 1e-6, gradient: float = 1e-4
) -> None:
    assert set(found) == set(expected) >= {"y", "x", "lora_A", "lora_B"}
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert error(found[name], tensor) < (y if name == "y" else gradient), name
