"""What saves memory or time leaves the loss and every gradient what they are, within rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from xrayexp.adapters.attach import attach_adapter, base_model
from xrayexp.adapters.config import AdapterSection
from xrayexp.data.collate import Batch, EncodedSample
from xrayexp.models.loading import compile_decoder_layers, decoder_layers, enable_gradient_checkpointing
from xrayexp.training.feature_store import FeatureCache, FeatureStore
from xrayexp.training.loss import supervised_loss_sum

Load = Callable[..., PreTrainedModel]
Found = tuple[float, dict[str, torch.Tensor]]
DRAWN = [0, 1, 0, 2, 1]  # samples of the step: two images come twice
MICRO_BATCH = 2


@dataclass(frozen=True)
class Saving:
    """A way to compute a step.

    Attributes:
        chunk: positions whose logits exist at once.
        checkpointed: decoder layers; -1 for none, None for all.
        features: where those of images are kept.
        compiled: whether decoder layers are.
    """

    chunk: int | None = None
    checkpointed: int | None = -1
    features: str = "none"
    compiled: bool = False


SAVINGS = {
    "logits in chunks": Saving(chunk=7),
    "all layers checkpointed": Saving(checkpointed=None),
    "some layers checkpointed": Saving(checkpointed=2),
    "features kept in the step": Saving(features="step"),
    "features from the disk": Saving(features="disk"),
    "all at once": Saving(chunk=16, checkpointed=1, features="disk"),
}
COMPILED = {
    "compiled": Saving(compiled=True),
    "compiled and checkpointed": Saving(compiled=True, checkpointed=None),
}


def adapted(base: PreTrainedModel, method: str) -> PeftModel:
    """With an adapter on the language model whose matrices are all filled, so that every gradient is."""
    peft = {"_target_": "peft.LoraConfig", "r": 4, "use_dora": method == "dora"}
    section = AdapterSection(name=method, lr_scale=1.0, target="language", quantized_base=True, peft=peft)
    torch.manual_seed(0)
    model = attach_adapter(base, section)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first
            parameter.data.normal_(0, 0.02)
    return model.train()


def step(model: PeftModel, batch: Batch, saving: Saving, folder: Path) -> Found:
    """Loss and gradients of all micro-batches."""
    base, total = base_model(model), 0.0
    if saving.checkpointed != -1:
        enable_gradient_checkpointing(base, saving.checkpointed)
    if saving.compiled:
        compile_decoder_layers(base)
    names = [sample.example.image_id for sample in batch.samples]
    disk = FeatureCache(folder, base, "32-true", names) if saving.features == "disk" else None
    store = None if saving.features == "none" else FeatureStore(base, disk)
    for _ in range(2 if disk else 1):  # the second time from what the first one has written
        model.zero_grad()
        total = 0.0
        for micro in batch.micro_batches(MICRO_BATCH):
            inputs = micro.inputs if store is None else store.inputs(micro)
            loss = supervised_loss_sum(base, inputs, micro.labels, saving.chunk) / batch.supervised_tokens
            loss.backward()
            total += float(loss.detach())
        if store is not None:
            store.forget()
    return total, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def batch(samples: Sequence[EncodedSample]) -> Batch:
    return Batch(tuple(samples[number] for number in DRAWN), pad_token_id=0)


@pytest.fixture(scope="module", params=["lora", "dora"])
def plain(request: pytest.FixtureRequest, load_tiny: Load, batch: Batch) -> tuple[str, Found]:
    """The method, and the step without any saving."""
    return request.param, step(adapted(load_tiny("nf4"), request.param), batch, Saving(), Path())


def compare(saving: Saving, plain: tuple[str, Found], load_tiny: Load, batch: Batch, folder: Path) -> None:
    method, (loss, gradients) = plain
    model = adapted(load_tiny("nf4"), method)
    found, theirs = step(model, batch, saving, folder)
    assert found == pytest.approx(loss, rel=1e-6)
    assert theirs.keys() == gradients.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, gradient in gradients.items():
        largest = float(gradient.abs().max())
        assert largest > 0, name
        difference = float((theirs[name] - gradient).abs().max())
        assert difference <= 1e-5 * largest, name


@pytest.mark.parametrize("saving", SAVINGS.values(), ids=SAVINGS)
def test_loss_and_gradients_stay(
    saving: Saving, plain: tuple[str, Found], load_tiny: Load, batch: Batch, tmp_path: Path
) -> None:
    compare(saving, plain, load_tiny, batch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("saving", COMPILED.values(), ids=COMPILED)
def test_loss_and_gradients_stay_when_compiled(
    saving: Saving, plain: tuple[str, Found], load_tiny: Load, batch: Batch, tmp_path: Path
) -> None:
    compare(saving, plain, load_tiny, batch, tmp_path)


def test_the_first_layers_are_checkpointed(load_tiny: Load) -> None:
    """Those that run forward twice in a step."""
    model = adapted(load_tiny(), "lora")
    base = base_model(model)
    enable_gradient_checkpointing(base, 2)
    assert [layer.gradient_checkpointing for layer in decoder_layers(base)] == [True, True] + [False] * (
        len(decoder_layers(base)) - 2
    )
