"""What sets runs apart: the values of their configs that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xrayexp.tracking.public import public_config

# Says where and how a run was made and watched, not what it is.
_BESIDES = ("paths", "hydra", "logger", "callbacks", "debug", "resume", "test", "metrics", "memory")
_HINTS = ("defaults", "about", "requires", "_partial_")


def differing_choices(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The values that are not the same in all runs.

    Args:
        configs: by run; one that is empty is not known, and says nothing.

    Returns:
        By key, such as "adapter.r": the value in each run, in words; "-" where a run does not have the key.
    """
    return {
        key: {run: in_words(values[run]) if run in values else "-" for run in configs}
        for key, values in differing_values(configs).items()
    }


def differing_values(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same as they are: by key the value in each run that has it."""
    flat = {run: dict(_flat(public_config(config))) for run, config in configs.items()}
    known = {run: values for run, values in flat.items() if values}
    keys = dict.fromkeys(key for values in known.values() for key in values)
    return {
        key: {run: values[key] for run, values in known.items() if key in values}
        for key in keys
        if len({in_words(values[key]) if key in values else None for values in known.values()}) > 1
    }


def data_choices(choices: Mapping[str, Mapping[str, str]], places: Sequence[str]) -> list[str]:
    """The keys among them that say which images and labels a run saw; `places` only say where these lie."""
    return [key for key in choices if key.startswith("data.") and not key.startswith(tuple(places))]


def in_words(value: Any) -> str:
    """A value of a config, short."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in _HINTS or (not prefix and key in _BESIDES):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value
