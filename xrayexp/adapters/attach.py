"""Puts an adapter on a model, saves it and loads it: PEFT's own files, nothing else."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from xrayexp.adapters.keys import key_mapping, mapped
from xrayexp.adapters.precision import PROJECTOR, keep_output_type, keep_projector_exact
from xrayexp.adapters.targets import target_modules
from xrayexp.errors import ConfigError, DataError
from xrayexp.models.loading import is_quantized

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, ProcessorMixin

    from xrayexp.adapters.config import AdapterSection


# Options of PEFT by which an adapter's numbers have another scale or other places, and the same shapes.
_OF_NO_SHAPE = (
    "lora_alpha", "alpha_pattern", "use_rslora", "randlora_alpha", "group_size",
    "scaling", "wavelet_family", "use_idwt", "random_loc_seed",
)  # fmt: skip


def attach_adapter(model: PreTrainedModel, section: AdapterSection, total_steps: int | None = None) -> PeftModel:
    """Wraps `model` with a new adapter; only the adapter (and `modules_to_save`) requires gradients.

    Args:
        model: the base model.
        section: the method and what it is applied to.
        total_steps: optimiser steps of the training, for methods with phases.

    Raises:
        ConfigError: when the method does not work on quantised weights or on these layers, or the target matches
            nothing.
    """
    from hydra.errors import InstantiationException
    from peft import PeftModel, get_peft_model

    from xrayexp.adapters.delora import quantized_delora
    from xrayexp.adapters.dora import factor_dora, init_magnitude

    if is_quantized(model) and not section.quantized_base:
        raise ConfigError([section.needs_unquantized])
    whole = [*(section.modules_to_save or ()), *([PROJECTOR] if section.train_projector else ())]
    for wanted in whole:
        if not any(name == wanted or name.endswith(f".{wanted}") for name, _ in model.named_modules()):
            raise ConfigError([f"adapter.modules_to_save: the model has no module '{wanted}'"])
    target, phases = target_modules(model, section.target), _phases(section, total_steps)
    try:
        config: PeftConfig = instantiate(
            section.peft,
            target_modules=target,
            task_type="CAUSAL_LM",
            modules_to_save=whole or None,
            **phases,
            _convert_="all",
        )
        with quantized_delora():
            adapted = get_peft_model(model, config)
    except (ValueError, InstantiationException) as error:  # e.g. a block size that does not divide a layer's width
        reason = str(error.__cause__ or error).partition("\n")[0]  # Hydra's own first line does not say it
        raise ConfigError([f"adapter={section.name}: {reason}"]) from error
    assert isinstance(adapted, PeftModel)
    for part in section.frozen:
        frozen = [parameter for name, parameter in adapted.named_parameters() if f".{part}." in name]
        if not frozen:
            raise ConfigError([f"adapter.frozen: the adapter has no parameters '{part}'"])
        for parameter in frozen:
            parameter.requires_grad_(False)
    factor_dora(adapted)
    init_magnitude(adapted)
    keep_output_type(adapted)
    keep_projector_exact(adapted)
    return adapted


def _phases(section: AdapterSection, total_steps: int | None) -> dict[str, int]:
    """PEFT's arguments that count steps."""
    if section.phases is None:
        return {}
    if total_steps is None:
        raise ValueError(f"adapter={section.name} must know how many steps the training has")
    if total_steps < 2:
        raise ConfigError([f"adapter={section.name} needs at least 2 optimiser steps, not {total_steps}"])
    return {name: int(share * total_steps) for name, share in section.phases.items()}


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

    Args:
        model: the base model.
        folder: written by this package or by PEFT, on a model of this or of another release of transformers.

    Raises:
        DataError: when the folder holds no adapter, or one of another base model.
    """
    from peft import PeftModel, load_peft_weights

    from xrayexp.adapters.delora import quantized_delora
    from xrayexp.adapters.dora import factor_dora

    require_adapter(folder)
    mapping = key_mapping(model)
    try:
        with quantized_delora():
            adapted = PeftModel.from_pretrained(
                model,
                str(folder),
                config=_stored_config(folder, mapping),
                key_mapping=mapping,
                ignore_mismatched_sizes=True,  # they are refused below, by name
            )
    except ValueError as error:
        raise DataError(
            f"the adapter in {folder} does not fit the model: {str(error).partition(chr(10))[0]}"
        ) from error
    _require_same_tensors(adapted, folder, mapping)
    factor_dora(adapted)
    keep_output_type(adapted)
    if keep_projector_exact(adapted):  # PEFT has rounded it to the type of the base model
        stored = load_peft_weights(str(folder), device=str(adapted.device), key_mapping=mapping)
        inside = f"{PROJECTOR}.modules_to_save.{adapted.active_adapter}."
        projector = {n.replace(f"{PROJECTOR}.", inside): t for n, t in stored.items() if f"{PROJECTOR}." in n}
        adapted.load_state_dict(projector, strict=False)
    return adapted


def restore_adapter(model: PeftModel, folder: Path) -> None:
    """Puts the weights in `folder` into the adapter that `model` has already.

    Raises:
        DataError: when the folder holds no adapter, one of another base model, or one with options under which the
            same numbers are another adapter.
    """
    from peft import PeftType, load_peft_weights, set_peft_model_state_dict

    require_adapter(folder)
    mapping = key_mapping(base_model(model))
    stored: Any = _stored_config(folder, mapping)
    if stored.peft_type == PeftType.ADALORA:  # its tensors have the shape that the pattern says
        model.active_peft_config.rank_pattern = stored.rank_pattern
    _require_same_tensors(model, folder, mapping)
    _require_same_meaning(model.active_peft_config, stored, folder)
    weights = load_peft_weights(str(folder), device=str(model.device), key_mapping=mapping)
    set_peft_model_state_dict(model, weights)


def _stored_config(folder: Path, mapping: dict[str, str]) -> PeftConfig:
    from peft import PeftConfig

    config: Any = PeftConfig.from_pretrained(str(folder))
    for by_layer in ("rank_pattern", "alpha_pattern"):
        if pattern := getattr(config, by_layer, None):
            setattr(config, by_layer, {mapped(name, mapping): value for name, value in pattern.items()})
    return config  # type: ignore[no-any-return]


def require_adapter(folder: Path) -> None:
    """Raises DataError when `folder` holds no adapter."""
    if not (folder / "adapter_config.json").exists():
        raise DataError(f"no adapter in {folder}: adapter_config.json is missing")


def _require_same_tensors(model: PeftModel, folder: Path, mapping: dict[str, str]) -> None:
    """PEFT only warns when tensors are missing, and goes on with an adapter that changes nothing."""
    from peft import get_peft_model_state_dict, load_peft_weights

    weights = (
        load_peft_weights(str(folder), device="cpu", key_mapping=mapping),
        get_peft_model_state_dict(model, save_embedding_layers=False),
    )
    stored, expected = ({name: tuple(tensor.shape) for name, tensor in given.items()} for given in weights)
    if differing := sorted(name for name in stored | expected if stored.get(name) != expected.get(name)):
        raise DataError(
            f"the adapter in {folder} belongs to another base model or is another kind of adapter: "
            f"{len(differing)} tensors differ, for example {differing[0]}"
        )


def _require_same_meaning(config: PeftConfig, stored: PeftConfig, folder: Path) -> None:
    for option in _OF_NO_SHAPE:
        there, here = getattr(stored, option, None), getattr(config, option, None)
        if there != here:
            raise DataError(
                f"the adapter in {folder} was made with {option}={there}, and this run has {option}={here}, by which "
                "its numbers are another adapter: choose the same"
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


def adapter_parameters(model: PeftModel | PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """What the adapter consists of, by name: all that is trained, and what of the adapter itself is frozen."""
    prefix = f".{getattr(getattr(model, 'base_model', None), 'prefix', '')}"
    return {name: p for name, p in model.named_parameters() if p.requires_grad or (len(prefix) > 1 and prefix in name)}


def whole_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """What is trained of modules that are trained whole; matrices that are tied come once."""
    from peft.utils.other import ModulesToSaveWrapper

    wrappers = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
    parameters = {id(p): p for wrapper in wrappers for p in wrapper.parameters() if p.requires_grad}
    return list(parameters.values())


def adapted_layers(model: PeftModel) -> str:
    """How many layers of each kind carry an adapter, and what is trained whole: "3 fc1, 6 q_proj, lm_head whole"."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    named = list(model.named_modules())
    kinds = Counter(name.rpartition(".")[2] for name, module in named if isinstance(module, BaseTunerLayer))
    whole = [name.rpartition(".")[2] for name, module in named if isinstance(module, ModulesToSaveWrapper)]
    parts = [f"{count} {kind}" for kind, count in sorted(kinds.items())] + [f"{name} whole" for name in whole]
    return ", ".join(parts)
