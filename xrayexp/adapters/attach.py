"""Puts an adapter on a model, saves it and loads it: PEFT's own files, nothing else."""

from __future__ import annotations

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

    if is_quantized(model) and not section.quantized_base:
        raise ConfigError(
            [f"adapter={section.name} does not work on quantised weights: add quantization=none, or use adapter=dora"]
        )
    config: PeftConfig = instantiate(
        section.peft,
        target_modules=target_modules(model, section.target),
        task_type="CAUSAL_LM",
        _convert_="all",
    )
    return get_peft_model(model, config)


def save_adapter(model: PeftModel, processor: ProcessorMixin, folder: Path) -> None:
    """Writes a PEFT checkpoint with the processor beside it; `folder` is replaced as a whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        fresh = Path(temporary) / "adapter"
        model.save_pretrained(str(fresh), save_embedding_layers=False)  # "auto" asks the hub
        processor.save_pretrained(fresh)
        if folder.exists():
            folder.rename(Path(temporary) / "replaced")
        fresh.rename(folder)


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Wraps `model` with the adapter in `folder`, for inference.

    Raises:
        DataError: when the folder holds no adapter.
    """
    from peft import PeftModel

    if not (folder / "adapter_config.json").exists():
        raise DataError(f"no adapter in {folder}: adapter_config.json is missing")
    return PeftModel.from_pretrained(model, str(folder))


def base_model(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """The Hugging Face model itself, with the adapter's layers in place if it has an adapter."""
    from peft import PeftModel

    base: PreTrainedModel = model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[assignment]
    return base


def trainable_parameters(model: PeftModel | PreTrainedModel) -> tuple[int, int]:
    """Numbers of trainable and of all parameters; 4-bit weights count as the numbers that they stand for."""
    trainable, total = model.get_nb_trainable_parameters()  # type: ignore[operator]
    return int(trainable), int(total)
