"""`hydra/launcher=subprocess`. Hydra looks for plugins in this place alone; the logic is in xrayexp/search."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SubprocessLauncher(Launcher):
    """Runs every job in a process of its own, one after the other."""

    def __init__(self) -> None:
        self._loaded: tuple[HydraContext, DictConfig] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra hands over; the task is that of the program, which is started again."""
        self._loaded = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs, and returns how they ended."""
        from xrayexp.search.subprocess_launcher import run_job

        assert self._loaded is not None
        context, config = self._loaded
        return [
            run_job(overrides, number, context, config)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
