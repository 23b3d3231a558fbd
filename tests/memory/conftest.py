"""The models that the canaries look at."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from tests.memory.canary import BF16, TINY, adapted, nf4
from xrayexp.adapters.attach import base_model
from xrayexp.memory.device_semantics import CUDA
from xrayexp.memory.step import as_on
from xrayexp.models.loading import enable_gradient_checkpointing, load_model
from xrayexp.models.skeleton import load_config, skeleton


@pytest.fixture(scope="module")
def real() -> PreTrainedModel:
    """The tiny model as it is loaded."""
    return load_model(TINY, quantization=nf4(), dtype=BF16, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def bones() -> PreTrainedModel:
    """The same without weights."""
    return skeleton(load_config(TINY, None), quantization=nf4(), dtype=BF16)


@pytest.fixture(scope="module")
def traced() -> PeftModel:
    """Without weights, with DoRA on all layers and checkpointing."""
    base = skeleton(load_config(TINY, None), quantization=nf4(), dtype=BF16)
    with as_on(CUDA):
        model = adapted(base, "language+vision")
    enable_gradient_checkpointing(base_model(model))
    return model
