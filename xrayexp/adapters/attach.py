"""Puts an adapter on a model, saves it and loads it: PEFT's own files, nothing else."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate

from xrayexp.adapters.targets import target_modules
from xrayexp.errors import ConfigError, DataError
from xrayexp.models.loading import is_quantized

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, ProcessorMixin

    from xrayexp.adapters.config import AdapterSection


def attach_adapter(model: PreTrainedModel, section: AdapterSection) -> PeftModel:
    """Wraps `model` with a new adapter; only the adapter (and `modules_to_save`) requires gradients.

    Raises:
        ConfigError: when the method does not work on quantised weights, or the target matches nothing.
    """
    from peft import get_peft_model

    from xrayexp.adapters.delora import quantized_delora
    from xrayexp.adapters.dora import factor_dora, init_magnitude

    if is_quantized(model) and not section.quantized_base:
        raise ConfigError([section.needs_unquantized])
    for wanted in section.modules_to_save or ():
        if not any(name == wanted or name.endswith(f".{wanted}") for name, _ in model.named_modules()):
            raise ConfigError([f"adapter.modules_to_save: the model has no module '{wanted}'"])
    config: PeftConfig = instantiate(
        section.peft,
        target_modules=target_modules(model, section.target),
        task_type="CAUSAL_LM",
        _convert_="all",
    )
    with quantized_delora():
        adapted = get_peft_model(model, config)
    factor_dora(adapted)
    init_magnitude(adapted)
    return adapted


def save_adapter(model: PeftModel, processor: ProcessorMixin, folder: Path) -> None:
    """Writes a PEFT checkpoint with the processor beside it; an old one is replaced once the new one is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        fresh = Path(temporary) / "adapter"
        model.save_pretrained(str(fresh), save_embedding_layers=False)  # "auto" asks the hub
        processor.save_pretrained(fresh)
        if folder.exists():
            folder.rename(Path(temporary) / "replaced")
        fresh.rename(folder)


def remove_unfinished(folder: Path) -> None:
    """Removes what a process left that was killed while it wrote the adapter `folder`."""
    for unfinished in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(unfinished)


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Wraps `model` with the adapter in `folder`, for inference.

    Raises:
        DataError: when the folder holds no adapter, or one of another base model.
    """
    from peft import PeftModel

    from xrayexp.adapters.delora import quantized_delora
    from xrayexp.adapters.dora import factor_dora

    require_adapter(folder)
    with quantized_delora():
        adapted = PeftModel.from_pretrained(model, str(folder))
    factor_dora(adapted)
    _require_same_tensors(adapted, folder)
    return adapted


def restore_adapter(model: PeftModel, folder: Path) -> None:
    """Puts the weights in `folder` into the adapter that `model` has already.

    Raises:
        DataError: when the folder holds no adapter, or one of another base model.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    require_adapter(folder)
    _require_same_tensors(model, folder)
    set_peft_model_state_dict(model, load_peft_weights(str(folder), device=str(model.device)))


def require_adapter(folder: Path) -> None:
    """Raises DataError when `folder` holds no adapter."""
    if not (folder / "adapter_config.json").exists():
        raise DataError(f"no adapter in {folder}: adapter_config.json is missing")


def _require_same_tensors(model: PeftModel, folder: Path) -> None:
    """PEFT only warns when tensors are missing, and goes on with an adapter that changes nothing."""
    from peft import get_peft_model_state_dict, load_peft_weights

    weights = (load_peft_weights(str(folder), device="cpu"), get_peft_model_state_dict(model))
    stored, expected = ({name: tuple(tensor.shape) for name, tensor in given.items()} for given in weights)
    if differing := sorted(name for name in stored | expected if stored.get(name) != expected.get(name)):
        raise DataError(
            f"the adapter in {folder} belongs to another base model or is another kind of adapter: "
            f"{len(differing)} tensors differ, for example {differing[0]}"
        )


def base_model(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """The Hugging Face model itself, with the adapter's layers in place if it has an adapter."""
    from peft import PeftModel

    base: PreTrainedModel = model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[assignment]
    return base


def trainable_parameters(model: PeftModel | PreTrainedModel) -> tuple[int, int]:
    """Numbers of trainable and of all parameters; 4-bit weights count as the numbers that they stand for."""
    trainable, total = model.get_nb_trainable_parameters()  # type: ignore[operator]
    return int(trainable), int(total)
