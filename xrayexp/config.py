"""What every room's config section shares: arithmetic in YAML, and the check of keys, types and ranges."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


def config_dir() -> Path:
    """The folder of the config files: inside the package of a wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


def quoted(text: str) -> str:
    """A value for an override of Hydra's, whatever its characters, but for a backslash at the end."""
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


class Section(Protocol):
    """A dataclass that mirrors one section of the config."""

    def problems(self) -> list[str]:
        """What is out of range, one sentence each; empty when all is well."""
        ...


SectionT = TypeVar("SectionT", bound=Section)


def register_resolvers() -> None:
    """Makes `${mul:a,b}` (a product of two numbers) known to OmegaConf; calling it again does no harm."""
    OmegaConf.register_new_resolver("mul", _product, replace=True)


def _product(a: Any, b: Any) -> float:
    """Whole where both factors are."""
    return a * b if isinstance(a, int) and isinstance(b, int) else float(a) * float(b)


def parse_section(cfg: DictConfig, name: str, schema: type[SectionT], problems: list[str]) -> SectionT | None:
    """Reads section `name` of a composed config into its dataclass.

    Args:
        cfg: the composed config.
        name: key of the section, e.g. "trainer".
        schema: the dataclass that the room owns.
        problems: every missing or unknown key, wrong type and value out of range is appended here, so that the
            user hears of all of them at once.

    Returns:
        The section, or None when a key or type was wrong.
    """
    given = cfg.get(name)
    if not isinstance(given, DictConfig):
        problems.append(f"{name}: the section is missing")
        return None
    try:
        container: Any = OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        problems.append(f"{name}: {str(error).splitlines()[0]}")
        return None
    wrong = [problem for key, value in container.items() if (problem := _problem(schema, name, str(key), value))]
    wrong += [f"{name}.{key}: the key is missing" for key in _required(schema) if key not in container]
    if wrong:
        problems.extend(wrong)
        return None
    section: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), container))
    checked: SectionT = section
    problems.extend(checked.problems())
    return checked


def _required(schema: type[Any]) -> list[str]:
    return [field.name for field in fields(schema) if field.default is MISSING and field.default_factory is MISSING]


def _problem(schema: type[Any], section: str, key: str, value: Any) -> str | None:
    """What is wrong with one key: its name or its type."""
    known = sorted(field.name for field in fields(schema))
    if key not in known:
        return f"{section}.{key}: unknown key; known are {', '.join(known)}"
    try:
        OmegaConf.merge(OmegaConf.structured(schema), {key: value})
    except OmegaConfBaseException as error:
        return f"{section}.{key}: {str(error).splitlines()[0]}"
    return None
