"""Which layers an adapter is put on."""

from __future__ import annotations

import re

import torch

from xrayexp.errors import ConfigError

_LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
_VISION = r".*vision_tower.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"

# Regular expressions, not lists of names: they are what PEFT saves, and they also match the module prefixes of
# other transformers releases.
TARGETS = {
    "language": _LANGUAGE,
    "language+vision": rf"({_LANGUAGE})|({_VISION})",
    "attention": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)",
}
NO_LAYER = "none"


def target_modules(model: torch.nn.Module, target: str) -> str:
    """The regular expression for PEFT's `target_modules`, checked against the model.

    Args:
        model: the base model.
        target: a key of `TARGETS`, "none", or a regular expression that must match whole module names.

    Raises:
        ConfigError: when the expression is invalid or matches no layer, or one that is not linear.
    """
    if target == NO_LAYER:
        from peft.utils.constants import DUMMY_TARGET_MODULES

        return DUMMY_TARGET_MODULES
    pattern = TARGETS.get(target, target)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError([f"adapter.target: '{target}' is not a regular expression: {error}"]) from None
    matched = {name: module for name, module in model.named_modules() if expression.fullmatch(name)}
    if not matched:
        known = ", ".join([*TARGETS, NO_LAYER])
        raise ConfigError([f"adapter.target: '{target}' matches no layer; use {known} or a regular expression"])
    for name, module in matched.items():
        if not isinstance(module, torch.nn.Linear):
            raise ConfigError([f"adapter.target: '{target}' matches '{name}', which is no linear layer"])
    return pattern
