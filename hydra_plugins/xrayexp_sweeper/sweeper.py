"""`hydra/sweeper=xrayexp`. Hydra looks for plugins in this place alone; the logic is in xrayexp/sweeping.py."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class XrayexpSweeper(Sweeper):
    """Optuna over the space that `search` describes."""

    def __init__(self) -> None:
        self._arguments: dict[str, Any] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra hands over."""
        self._arguments = {"context": hydra_context, "task": task_function, "config": config}

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep, and returns what it found."""
        from xrayexp.sweeping import sweep  # imports Optuna

        return sweep(arguments, **self._arguments)
