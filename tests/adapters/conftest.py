"""What tests of adapters share: sections of the config, and models to put adapters on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from peft import PeftModel
from transformers import PreTrainedModel

from tests.adapters.family import FIRST_LAYERS, STEPS
from xrayexp.adapters.attach import attach_adapter
from xrayexp.adapters.config import AdapterSection
from xrayexp.adapters.dora_function import DoraFunction
from xrayexp.config import parse_section
from xrayexp.data.collate import EncodedSample, MicroBatch, pad
from xrayexp.models.loading import load_model


@pytest.fixture(scope="session")
def section(compose: Callable[..., DictConfig]) -> Callable[..., AdapterSection]:
    """`section("adapter=vera")`: the adapter section of that command line."""

    @cache
    def parsed(*overrides: str) -> AdapterSection:
        problems: list[str] = []
        adapter = parse_section(compose(*overrides), "adapter", AdapterSection, problems)
        assert adapter is not None
        assert not problems
        return adapter

    return parsed


@pytest.fixture(scope="session")
def batch(samples: Sequence[EncodedSample]) -> MicroBatch:
    """Two samples, padded."""
    return pad(samples[:2], pad_token_id=0)


@pytest.fixture(scope="session")
def fresh(compose: Callable[..., DictConfig]) -> Callable[..., PreTrainedModel]:
    """`fresh("nf4", torch.bfloat16)`: a copy of the default model; loading it again would take longer."""

    @cache
    def loaded(quantization: str, dtype: torch.dtype) -> PreTrainedModel:
        cfg = compose(f"quantization={quantization}")
        config = instantiate(cfg.quantization.config)
        return load_model(cfg.model.pretrained, quantization=config, dtype=dtype, device=torch.device("cpu"))

    def copied(quantization: str = "none", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        return copy.deepcopy(loaded(quantization, dtype))

    return copied


@pytest.fixture(scope="session")
def attached(fresh: Callable[..., PreTrainedModel], section: Callable[..., AdapterSection]) -> Callable[..., PeftModel]:
    """`attached("vera", quantization="nf4")`: the default model with a new adapter of that method."""

    def adapted(
        method: str, *overrides: str, quantization: str = "none", dtype: torch.dtype = torch.float32
    ) -> PeftModel:
        torch.manual_seed(0)
        chosen = section(f"adapter={method}", *([] if method == "none" else [FIRST_LAYERS]), *overrides)
        return attach_adapter(fresh(quantization, dtype), chosen, STEPS)

    return adapted


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry, the number of rows, with each call of the fused function."""
    calls: list[int] = []
    apply: Any = DoraFunction.apply

    def counted(x: torch.Tensor, *rest: Any) -> Any:
        calls.append(len(x))
        return apply(x, *rest)

    monkeypatch.setattr(DoraFunction, "apply", counted)
    return calls
