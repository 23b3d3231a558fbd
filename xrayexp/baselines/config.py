"""The config section of the baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xrayexp.baselines.base import Baseline
from xrayexp.errors import ConfigError


@dataclass
class BaselineSection:
    """`baseline`: what stands beside a run in its table.

    Attributes:
        methods: by name, the `_target_` and arguments of a `xrayexp.baselines.base.Baseline`; null switches one off.
        base_model: whether the model without its adapter is asked as well.
    """

    methods: dict[str, Any]
    base_model: bool

    def problems(self) -> list[str]:
        """What cannot be made, one sentence each."""
        try:
            self.made()
        except ConfigError as error:
            return list(error.problems)
        return []

    def made(self) -> dict[str, Baseline]:
        """The baselines by name; they have read nothing yet.

        Raises:
            ConfigError: what is wrong with any of them, one sentence each.
        """
        from hydra.errors import InstantiationException
        from hydra.utils import instantiate

        made, problems = {}, []
        for name, target in self.methods.items():
            if target is None:
                continue
            try:
                made[name] = instantiate(target, _convert_="all")
            except (InstantiationException, TypeError) as error:
                cause = error.__cause__ or error  # Hydra wraps what the baseline said itself
                told = cause.problems if isinstance(cause, ConfigError) else [str(cause).partition("\n")[0]]
                problems += [f"baseline.methods.{name}: {words}" for words in told]
                continue
            if not isinstance(made[name], Baseline):
                problems.append(f"baseline.methods.{name}: is no baseline, but {type(made[name]).__name__}")
        if problems:
            raise ConfigError(problems)
        return made
