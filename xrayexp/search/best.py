"""The best configuration as an experiment file, which train.py takes like any other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from omegaconf import OmegaConf

from xrayexp.errors import ConfigError
from xrayexp.replacing import replaced

FOLDER, GROUP, NAME = (
    "best",
    "experiment",
    "best",
)  # SWEEP/best/experiment/best.yaml, found with --config-dir=SWEEP/best


def experiment_file(sweep: Path) -> Path:
    """Where the file of a sweep lies."""
    return sweep / FOLDER / GROUP / f"{NAME}.yaml"


def command(sweep: Path) -> str:
    """What trains the best configuration again."""
    return shlex.join(["python", "train.py", f"--config-dir={sweep / FOLDER}", f"{GROUP}={NAME}"])


def check_writable(overrides: Sequence[Override]) -> None:
    """Passes when all of these overrides can stand in a file.

    Raises:
        ConfigError: a deletion, which only a command line can express, or an experiment of the file's own name.
    """
    problems = [
        f"{one.input_line}: a sweep takes no deletions; set the key to null instead"
        for one in overrides
        if one.is_delete()
    ]
    if any(one.key_or_group == GROUP and NAME in _names(one.value()) for one in overrides if not one.is_delete()):
        problems.append(f"{GROUP}={NAME}: a sweep writes an experiment of this name; rename the file")
    if problems:
        raise ConfigError(problems)


def write_experiment(file: Path, overrides: Sequence[str], loader: ConfigLoader, title: str) -> None:
    """Writes overrides as a config of the group `experiment`: options into its defaults list, values below.

    Args:
        file: to be written.
        overrides: of one trial, as a command line would have them.
        loader: knows which keys are config groups.
        title: the first line, a comment.
    """
    below: list[str] = []
    added: list[Any] = []
    overridden: list[Any] = []
    values = OmegaConf.create()
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key = override.key_or_group
        if _is_group(loader, key):
            place = f"/{key}" + (f"@{override.package}" if override.package else "")
            option = _plain(override.value())
            if key == GROUP:
                below = _names(option)
            elif override.is_add():
                added.append({place: option})
            else:
                overridden.append({f"override {place}": option})
        else:
            # As Hydra does it: a mapping is merged with what is there.
            OmegaConf.update(values, key, _plain(override.value()), merge=True, force_add=True)
    # Of OmegaConf, whose quotes keep '1e-4' a text.
    defaults = [*below, *added, *overridden, "_self_"]  # Hydra wants what is overridden behind what is new
    text = OmegaConf.to_yaml(OmegaConf.merge({"defaults": defaults}, values))
    with replaced(file) as temporary:
        temporary.write_text(f"# @package _global_\n# {title}\n{text}", encoding="utf-8")


def _is_group(loader: ConfigLoader, key: str) -> bool:
    return "." not in key and bool(loader.get_group_options(key))


def _names(option: Any) -> list[str]:
    """The options of a group, of which there are mostly one and sometimes several."""
    return [str(one) for one in (option if isinstance(option, list) else [option]) if one is not None]


def _plain(value: Any) -> Any:
    """A value of Hydra's grammar as YAML writes it."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
