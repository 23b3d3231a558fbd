"""A small real Trainer, and a reader of what W&B leaves on disk."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from tests.conftest import Compose
from tests.tracking.sweep_folders import write_sweep


@pytest.fixture
def names_host() -> Callable[[bytes], bool]:
    """`names_host(content)`: whether this machine's name stands there as a word.

    It may be two letters, which stand by chance within hashes and binary numbers.
    """
    name = re.escape(platform.node().encode())
    return lambda content: re.search(rb"(?<![\w+/=-])" + name + rb"(?![\w+/=-])", content) is not None


class Module(L.LightningModule):
    """Logs one thing in training and another in validation, after `fail_at` steps nothing any more."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.fail_at = fail_at

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        if self.global_step == self.fail_at:
            raise ValueError("the loss is no number")
        loss: torch.Tensor = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.log("val/loss", self.layer(batch).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="session")
def sweep(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of 24 trials that never ran; not to be changed."""
    return write_sweep(tmp_path_factory.mktemp("sweep") / "rank", compose())


Fit = Callable[..., L.Trainer]


@pytest.fixture(scope="session")
def fit() -> Fit:
    """`fit(loggers, fail_at=None)`: two epochs of 3 steps with a validation each, every step logged."""

    def fitted(loggers: Sequence[Logger], fail_at: int | None = None) -> L.Trainer:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=2,
            logger=list(loggers),
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        data: DataLoader[torch.Tensor] = DataLoader(list(torch.ones(3, 1)))  # type: ignore[arg-type]
        trainer.fit(Module(fail_at), data, data)
        return trainer

    return fitted


@dataclass
class OfflineRun:
    """What W&B recorded of a run, as `wandb sync` would send it."""

    folder: Path
    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    def files(self) -> list[Path]:
        """Everything that would be sent: the records, the run's files and what waits for an upload."""
        folders = self.folder / "files", self.folder.parent / "data"
        return [*self.folder.glob("*.wandb"), *(path for one in folders for path in one.rglob("*") if path.is_file())]


def read(folder: Path) -> OfflineRun:
    """Reads one offline-run folder with wandb's own command."""
    (file,) = folder.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    run = OfflineRun(folder)
    for line in found.stdout.splitlines():
        match json.loads(line):
            case {"run": started}:
                run.run = started
            case {"config": {"update": update}}:
                run.config |= update
            case {"summary": {"update": update}}:
                run.summary |= update
            case {"history": {"item": item}}:
                run.history.append(item)
            case {"exit": end}:
                run.exit_code = end.get("exit_code", 0)
    return run


@pytest.fixture(scope="session")
def offline_runs() -> Callable[[Path], list[OfflineRun]]:
    """`offline_runs(run_folder)`: the W&B runs of a run folder, oldest first."""
    return lambda run_folder: [read(folder) for folder in sorted((run_folder / "wandb").glob("offline-run-*"))]


@pytest.fixture
def logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder without a W&B login; nothing is set in the environment."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("NETRC", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home
