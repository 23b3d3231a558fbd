"""Turns an exception into the one message that its user needs, or says that it is a bug.

Messages name the nearest known option or key, and leave out what only a developer of Hydra could use.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from xrayexp.errors import UserError, is_disk_full


def explain(error: BaseException) -> str | None:
    """The message for an error that the user can fix, or None for a bug, whose traceback should be seen."""
    match error:
        case UserError():
            return str(error)
        case InstantiationException():
            return _failed_target(error)
        case MissingConfigException():
            return _unknown_option(error)
        case OverrideParseException():
            return _unreadable_override(error)
        case HydraException():
            return _failed_composition(error)
        case ConfigAttributeError() | ConfigKeyError():
            return _unknown_key(error)
        case OmegaConfBaseException():
            place = f"{error.full_key}: " if error.full_key else ""
            return place + _first_line(error)
        case _ if is_disk_full(error):
            return (
                f"no room on the disk ({_first_line(error)}). What had been saved before is untouched: free some "
                "space, then go on with `python train.py resume=RUN`"
            )
        case _:
            return None


def _unreadable_override(error: OverrideParseException) -> str:
    """Not of the form key=value; the parser's own words say where."""
    words = str(error).removeprefix(f"Error parsing override '{error.override}'\n").partition("\n")[0]
    return f"cannot read '{error.override}': {words}\nOverrides are written key=value."


def _failed_composition(error: HydraException) -> str:
    """Hydra wraps OmegaConf's errors; an unknown key needs no word of Hydra's, a wrong value needs both."""
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(cause)
    parts = [str(error).strip(), _first_line(cause) if cause else ""]
    return "\n".join(part for part in parts if part)


def _failed_target(error: InstantiationException) -> str | None:
    """A `_target_` that could not be found or called as the config says; None when its own code failed."""
    cause = error.__cause__
    if cause is None:
        return str(error)
    if (message := explain(cause)) is not None:
        return message
    raised_by_the_call = cause.__traceback__ is not None and cause.__traceback__.tb_next is None
    arguments_do_not_fit = isinstance(cause, TypeError) and raised_by_the_call
    if arguments_do_not_fit or "locating target" in str(error):
        key = str(error).rpartition("full_key: ")[2]
        return f"{key}: {cause}"
    return None


def _unknown_option(error: MissingConfigException) -> str:
    """A config group has no such option: Hydra's list of options, and the nearest one."""
    message = str(error).partition("Config search path:")[0].strip()
    if not error.options or error.missing_cfg_file is None:
        return message
    group, _, option = error.missing_cfg_file.rpartition("/")
    first, _, rest = message.partition("\n")
    near = [f"{group}={name}" for name in _closest(option, error.options, 0.5)]
    return f"{first}.{_did_you_mean(near)}\n{rest}"


def _unknown_key(error: ConfigAttributeError | ConfigKeyError) -> str:
    """The config has no such key: the nearest keys, and the keys that stand beside it."""
    parent, key = error.parent_node, str(error.full_key)
    if not isinstance(parent, DictConfig):
        return _first_line(error)
    root = OmegaConf.to_container(parent._get_root(), resolve=False)
    paths = [path for path in _paths(root) if key.startswith("hydra.") or not path.startswith("hydra")]
    same_name = [path for path in paths if path.rpartition(".")[2] == key.rpartition(".")[2]]
    near = list(dict.fromkeys([*same_name, *_closest(key, paths, 0.8)]))
    section = key.rpartition(".")[0]
    beside = ", ".join(sorted(str(name) for name in parent if name != "hydra"))
    return (
        f"the config has no key '{key}'.{_did_you_mean(near[:3])}\n"
        f"Keys of {section or 'the config'}: {beside or 'none'}"
    )


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a nested mapping in dotted form, sections and values alike."""
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        yield f"{prefix}{key}"
        yield from _paths(value, f"{prefix}{key}.")


def _closest(word: str, known: Sequence[str], cutoff: float) -> list[str]:
    return difflib.get_close_matches(word, known, n=3, cutoff=cutoff)


def _did_you_mean(suggestions: Sequence[str]) -> str:
    quoted = [f"'{suggestion}'" for suggestion in suggestions]
    return f" Did you mean {' or '.join(quoted)}?" if quoted else ""


def _first_line(error: BaseException) -> str:
    """OmegaConf and Hydra add lines about their own types and pages below the first."""
    return str(error).partition("\n")[0].strip()
