"""The config sections of the models room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ATTENTION = ("eager", "sdpa", "flash_attention_2")


@dataclass
class ModelAbout:
    """`model.about`: what a model card must say of the base model.

    Attributes:
        hub_id: of what `pretrained` is, or is a copy of; None when it is on no hub.
        license: the hub's identifier of the licence.
        license_name: its name, when the identifier is "other".
        license_link: its text.
        notice: what the licence wants to be said in a file NOTICE; None for no such file.
        terms: a sentence or two about what the licence asks.
    """

    hub_id: str | None
    license: str
    license_name: str | None
    license_link: str | None
    notice: str | None
    terms: str


@dataclass
class ModelSection:
    """`model`: which checkpoint, and the limits of its text.

    Attributes:
        name: short name, for the run folder and tables.
        pretrained: a local folder, a hub id, or `pkg://package/path` for what ships with a package.
        architecture: a folder, likewise, with the config.json of `pretrained`, for plans on machines without it.
        max_length: most tokens of a training sample, prompt and image included.
        max_new_tokens: most tokens of a generated report.
        attention: transformers' attention implementation.
        defaults: what suits this model; the YAML files of other groups refer to it.
        about: for model cards; None in the config of a run that is older than they are.
    """

    name: str
    pretrained: str
    architecture: str | None
    max_length: int
    max_new_tokens: int
    attention: str
    defaults: dict[str, Any]
    about: ModelAbout | None = None

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        if self.max_length < 1:
            found.append(f"model.max_length must be at least 1, not {self.max_length}")
        if self.max_new_tokens < 1:
            found.append(f"model.max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if self.attention not in ATTENTION:
            found.append(f"model.attention must be one of {', '.join(ATTENTION)}, not '{self.attention}'")
        return found


@dataclass
class QuantizationSection:
    """`quantization`: `config` is instantiated to a transformers quantisation config, or None."""

    name: str
    config: dict[str, Any] | None

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        options = self.config or {}
        found = [
            f"quantization.config.{name} must be true or false, not {options[name]}"
            for name in ("load_in_4bit", "load_in_8bit", "bnb_4bit_use_double_quant")
            if not isinstance(options.get(name, False), bool)
        ]
        if options.get("bnb_4bit_quant_type", "nf4") not in ("nf4", "fp4"):
            found.append(
                f"quantization.config.bnb_4bit_quant_type must be nf4 or fp4, not {options['bnb_4bit_quant_type']}"
            )
        return found
