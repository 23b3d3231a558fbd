"""Features of images: computed once, never those of another image, model or precision, only while they are fixed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from xrayexp.adapters.attach import attach_adapter, base_model
from xrayexp.data.collate import EncodedSample, MicroBatch, pad
from xrayexp.errors import ConfigError, DataError
from xrayexp.models.image_features import FEATURES
from xrayexp.settings import Settings
from xrayexp.training.feature_store import FeatureCache, FeatureStore, feature_store

Load = Callable[..., PreTrainedModel]
IMAGES = ["a", "b", "c"]


class Counted:
    """How many images go through a model's vision tower."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.images = 0
        model.model.vision_tower.register_forward_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Any, kwargs: dict[str, torch.Tensor], out: Any) -> None:
        self.images += len(kwargs["pixel_values"])


@pytest.fixture
def model(load_tiny: Load) -> PreTrainedModel:
    return load_tiny()


@pytest.fixture(scope="module")
def named(samples: Sequence[EncodedSample]) -> list[EncodedSample]:
    return [
        replace(sample, example=replace(sample.example, image_id=name))
        for name, sample in zip(IMAGES, samples, strict=False)
    ]


def micro(*chosen: EncodedSample) -> MicroBatch:
    return pad(chosen, pad_token_id=0)


def features(store: FeatureStore, *chosen: EncodedSample) -> torch.Tensor:
    return store.inputs(micro(*chosen))[FEATURES]


def test_an_image_is_computed_once_in_a_step(model: PreTrainedModel, named: Sequence[EncodedSample]) -> None:
    counted, store = Counted(model), FeatureStore(model)
    a, b, c = named
    first = features(store, a, b, a)
    assert counted.images == 2
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    again = features(store, b, c)  # another micro-batch, or the step once more after it ran out of memory
    assert counted.images == 3
    assert torch.equal(again[0], first[1])
    store.forget()
    assert torch.allclose(features(store, a, b, a), first)
    assert counted.images == 5


def test_other_pixels_are_another_image(model: PreTrainedModel, named: Sequence[EncodedSample], tmp_path: Path) -> None:
    """Augmented otherwise, or a file that was replaced: in a step and on disk."""
    other = replace(named[0], pixels=named[0].pixels.flip(0))
    for disk in (None, FeatureCache(tmp_path, model, "32-true", IMAGES)):
        store = FeatureStore(model, disk)
        one, two = features(store, named[0], other)
        assert not torch.equal(one, two)
        fresh = FeatureStore(model, disk)
        torch.testing.assert_close(features(fresh, other)[0], two)
        torch.testing.assert_close(features(fresh, named[0])[0], one)


def test_what_is_on_disk_is_not_computed_again(
    model: PreTrainedModel, load_tiny: Load, named: Sequence[EncodedSample], tmp_path: Path
) -> None:
    written = features(FeatureStore(model, FeatureCache(tmp_path, model, "32-true", IMAGES)), *named)
    counted = Counted(model)
    assert torch.equal(features(FeatureStore(model, FeatureCache(tmp_path, model, "32-true", IMAGES)), *named), written)
    assert counted.images == 0
    changed = load_tiny()
    with torch.no_grad():
        next(iter(changed.model.multi_modal_projector.parameters())).mul_(1.5)
    for base, precision in ((changed, "32-true"), (model, "bf16-mixed"), (load_tiny("nf4"), "32-true")):
        recount = Counted(base)
        features(FeatureStore(base, FeatureCache(tmp_path, base, precision, IMAGES)), *named)
        assert recount.images == len(named)


def test_a_damaged_record_is_computed_again(
    model: PreTrainedModel, named: Sequence[EncodedSample], tmp_path: Path
) -> None:
    written = features(FeatureStore(model, FeatureCache(tmp_path, model, "32-true", IMAGES)), *named)
    [file] = tmp_path.glob("*/features.bin")
    content = bytearray(file.read_bytes())
    content[7] ^= 255
    file.write_bytes(content)
    counted = Counted(model)
    read = features(FeatureStore(model, FeatureCache(tmp_path, model, "32-true", IMAGES)), *named)
    torch.testing.assert_close(read, written)
    assert counted.images == 1


def test_the_size_is_said_first_and_must_fit(
    model: PreTrainedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Any = model.config
    tokens, hidden = config.mm_tokens_per_image, config.text_config.hidden_size
    with caplog.at_level(logging.INFO, "xrayexp"):
        FeatureCache(tmp_path, model, "32-true", IMAGES)
    assert f"feature cache: 3 images as {tokens} x {hidden} numbers (float32) take" in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * tokens * hidden * 4 - 1))
    with pytest.raises(DataError, match=r"the disk has .*trainer\.feature_cache=step"):
        FeatureCache(tmp_path, model, "32-true", IMAGES)


@pytest.mark.parametrize(
    "target, fixed",
    [
        ("adapter.target=language", True),
        ("adapter.target=language+vision", False),
        ("adapter.train_projector=true", False),
        ("adapter.modules_to_save=[embed_tokens]", True),
    ],
)
def test_only_features_that_are_fixed_are_kept(
    compose: Callable[..., Any],
    model: PreTrainedModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    target: str,
    fixed: bool,
) -> None:
    settings = Settings.from_config(compose("adapter.target=language", "quantization=none", target))
    base = base_model(attach_adapter(model, settings.adapter))
    trainer = replace(settings.trainer, feature_cache="step")
    with caplog.at_level(logging.INFO, "xrayexp"):
        assert (feature_store(base, trainer, tmp_path, IMAGES) is not None) == fixed
    assert ("changes the features" in caplog.text) != fixed
    on_disk = replace(trainer, feature_cache="disk")
    if fixed:
        assert feature_store(base, on_disk, tmp_path, IMAGES) is not None
    else:
        with pytest.raises(ConfigError, match="feature_cache=disk"):
            feature_store(base, on_disk, tmp_path, IMAGES)
    assert feature_store(base, replace(trainer, feature_cache="none"), tmp_path, IMAGES) is None


def test_features_that_are_random_are_not_kept(
    compose: Callable[..., Any], model: PreTrainedModel, tmp_path: Path
) -> None:
    trainer = replace(Settings.from_config(compose()).trainer, feature_cache="step")
    assert feature_store(model, trainer, tmp_path, IMAGES) is not None
    attention: Any = next(m for n, m in model.model.vision_tower.named_modules() if n.endswith("self_attn"))
    attention.dropout = 0.1
    assert feature_store(model, trainer, tmp_path, IMAGES) is None
