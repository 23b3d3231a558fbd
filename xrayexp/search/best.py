"""The best configuration as an experiment file, which train.py takes like any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString

from xrayexp.errors import ConfigError

FOLDER, NAME = "best", "best"  # SWEEP/best/experiment/best.yaml: --config-dir=SWEEP/best experiment=best


def experiment_file(sweep: Path) -> Path:
    """Where the file of a sweep lies."""
    return sweep / FOLDER / "experiment" / f"{NAME}.yaml"


def command(sweep: Path) -> str:
    """What trains the best configuration again."""
    return f"python train.py --config-dir={sweep / FOLDER} experiment={NAME}"


def check_writable(overrides: Sequence[Override]) -> None:
    """Passes when all of these overrides can stand in a file.

    Raises:
        ConfigError: a deletion, which only a command line can express.
    """
    deleted = [one.input_line or one.get_key_element() for one in overrides if one.is_delete()]
    if deleted:
        raise ConfigError([f"{text}: a sweep takes no deletions; set the key to null instead" for text in deleted])


def write_experiment(file: Path, overrides: Sequence[str], loader: ConfigLoader, title: str) -> None:
    """Writes overrides as a config of the group `experiment`: options into its defaults list, values below.

    Args:
        file: to be written.
        overrides: of one trial, as a command line would have them.
        loader: knows which keys are config groups.
        title: the first line, a comment.
    """
    defaults: list[Any] = []
    values: dict[str, Any] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key = override.key_or_group
        if _is_group(loader, key):
            place = f"/{key}" + (f"@{override.package}" if override.package else "")
            if override.is_add():
                defaults.append({place: _plain(override.value())})
            else:
                defaults.append({f"override {place}": _plain(override.value())})
        else:
            node = values
            *sections, last = key.split(".")
            for section in sections:
                node = node.setdefault(section, {})
            node[last] = _plain(override.value())
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"defaults": [*defaults, "_self_"], **values}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    file.write_text(f"# @package _global_\n# {title}\n{text}", encoding="utf-8")


def _is_group(loader: ConfigLoader, key: str) -> bool:
    return "." not in key and bool(loader.get_group_options(key))


def _plain(value: Any) -> Any:
    """A value of Hydra's grammar as YAML writes it."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
