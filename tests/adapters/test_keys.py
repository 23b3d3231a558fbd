"""Adapter files whose names are those of another release of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.adapters.family import disturb, logits
from xrayexp.adapters.attach import load_adapter, restore_adapter
from xrayexp.adapters.keys import key_mapping, mapped
from xrayexp.data.collate import MicroBatch
from xrayexp.errors import DataError

Attached = Callable[..., PeftModel]

# Where releases of transformers put the parts of a Gemma 3 model, innermost part first in each name.
RELEASES = {
    "up to 4.51": {
        "model.language_model.": "language_model.model.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector": "multi_modal_projector",
        "lm_head": "language_model.lm_head",
    },
    "from 4.52": {"model.vision_tower.": "model.vision_tower.vision_model."},
}


def rename(folder: Path, release: str) -> list[str]:
    """Makes the file in `folder` one of that release; returns its names."""

    def renamed(name: str) -> str:
        inner = name.removeprefix("base_model.model.")
        for now, then in RELEASES[release].items():
            if inner.startswith(now):
                inner = then + inner.removeprefix(now)
                break
        return name[: len(name) - len(name.removeprefix("base_model.model."))] + inner

    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    tensors = {renamed(name): tensor for name, tensor in load_file(weights).items()}
    save_file(tensors, weights)
    content = json.loads(config.read_text())
    for by_layer in ("rank_pattern", "alpha_pattern"):
        if content.get(by_layer):
            content[by_layer] = {renamed(name): value for name, value in content[by_layer].items()}
    config.write_text(json.dumps(content))
    return list(tensors)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("method", ["lora", "vera", "adalora"])
def test_a_file_of_another_release(
    attached: Attached, fresh: Callable[..., PreTrainedModel], batch: MicroBatch, tmp_path: Path,
    method: str, release: str,
) -> None:  # fmt: skip
    """As plain PEFT writes it there: all names differ from those of the model that loads it."""
    whole = "adapter.modules_to_save=[lm_head]"
    model = attached(method, "adapter.train_projector=true", whole)
    disturb(model)
    if method == "adalora":
        _prune(model)
    if method == "lora":
        _scale_one_layer(model)
    expected = logits(model, batch)
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    names = rename(tmp_path, release)
    assert any(".vision_model." in name for name in names)
    loaded = load_adapter(fresh(), tmp_path)
    torch.testing.assert_close(logits(loaded, batch), expected)
    disturb(model)
    restore_adapter(model, tmp_path)
    torch.testing.assert_close(logits(model, batch), expected)


def _prune(model: PeftModel) -> None:
    """Takes every other rank away, as the allocator would."""
    pattern = {}
    with torch.no_grad():
        for name, parameter in model.get_base_model().named_parameters():
            if "lora_E.default" in name:
                parameter[::2] = 0
                pattern[name] = [bool(i % 2) for i in range(len(parameter))]
    model.active_peft_config.rank_pattern = pattern


def _scale_one_layer(model: PeftModel) -> None:
    """Gives one layer an alpha of its own, as PEFT's alpha_pattern does."""
    name = "model.language_model.layers.0.self_attn.q_proj"
    layer = model.get_base_model().get_submodule(name)
    layer.set_scale("default", 10.0)  # type: ignore[operator]
    model.active_peft_config.alpha_pattern = {name: 10.0 * model.active_peft_config.lora_alpha}


def test_a_file_that_lacks_a_tensor_or_has_one_too_many_is_refused(
    attached: Attached, fresh: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    attached("lora").save_pretrained(str(tmp_path / "old"), save_embedding_layers=False)
    rename(tmp_path / "old", "up to 4.51")
    tensors = load_file(tmp_path / "old" / "adapter_model.safetensors")
    name = next(name for name in tensors if "q_proj.lora_A" in name)
    for changed in (
        {n: t for n, t in tensors.items() if n != name},
        {**tensors, name.replace("layers.0", "layers.9"): tensors[name].clone()},
        {**tensors, name: tensors[name][:, 1:].contiguous()},
    ):
        folder = tmp_path / "changed"
        shutil.copytree(tmp_path / "old", folder)
        save_file(changed, folder / "adapter_model.safetensors")
        with pytest.raises(DataError, match="belongs to another base model"):
            load_adapter(fresh(), folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "method, option", [("waveft", "seed=1"), ("lora", "adapter.alpha=1"), ("road", "adapter.peft.group_size=8")]
)
def test_the_same_numbers_with_another_meaning_are_not_restored(
    attached: Attached, tmp_path: Path, method: str, option: str
) -> None:
    attached(method).save_pretrained(str(tmp_path), save_embedding_layers=False)
    restore_adapter(attached(method), tmp_path)
    with pytest.raises(DataError, match="another adapter: choose the same"):
        restore_adapter(attached(method, option), tmp_path)


def test_a_target_that_the_model_does_not_have(
    attached: Attached, fresh: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    attached("lora").save_pretrained(str(tmp_path), save_embedding_layers=False)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": ["c_attn"]}))
    with pytest.raises(DataError, match="does not fit the model"):
        load_adapter(fresh(), tmp_path)


def test_names_of_the_model_itself_stay(fresh: Callable[..., PreTrainedModel]) -> None:
    model = fresh()
    mapping = key_mapping(model)
    assert len(mapping) == 4
    for name, _ in model.named_parameters():
        assert mapped(name, mapping) == name
    assert mapped("something.else", mapping) == "something.else"
    assert key_mapping(torch.nn.Linear(2, 2)) == {}
