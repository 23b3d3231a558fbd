"""What a run leaves on disk, and where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xrayexp.errors import UserError
from xrayexp.replacing import replaced


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    README.txt         what the run is and what can be done with it
    config.yaml        the resolved config
    run.json           how it was started and how it ended
    logs/metrics.csv   training and validation, by step
    checkpoints/best   the adapter with the best validation score, a plain PEFT folder
    checkpoints/last   the adapter at the end
    checkpoints/*.ckpt what resuming needs
    splits.parquet     the split of every image
    split_balance.csv  how evenly every finding is spread over the splits
    quarantine.csv     images that could not be read; not there when all could
    samples/           what the model said of a few images, at every validation
    evaluation/SPLIT   predictions.jsonl, metrics.json and the table; for train losses.csv; SPLIT_majority and so on
                       are those of baselines, SPLIT_baselines is the table of all
    summary.json       the run in a few numbers
    memory.json        the memory that was predicted; not there without a budget
    export/CHECKPOINT  the adapter merged into its base, when it was exported
    """

    path: Path

    @classmethod
    def new(cls, path: Path) -> RunFolder:
        """The folder of a run that is about to start; nothing is written yet.

        Raises:
            UserError: when it holds a run already.
        """
        folder = cls(path)
        if folder.config_file.exists():
            raise UserError(f"{path} already holds a run: choose another hydra.run.dir")
        return folder

    def write_config(self, cfg: dict[str, Any]) -> None:
        """Writes the resolved config, which makes the folder that of a run."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.config_file, OmegaConf.to_yaml(OmegaConf.create(cfg)))

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a finished or running run.

        Raises:
            UserError: when there is none.
        """
        folder = cls(path)
        if not folder.config_file.exists():
            raise UserError(f"{path} is not the folder of a run: {folder.config_file.name} is missing")
        return folder

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    def config(self) -> DictConfig:
        """The config that the run was started with."""
        loaded = OmegaConf.load(self.config_file)
        assert isinstance(loaded, DictConfig)
        return loaded

    @property
    def record_file(self) -> Path:
        """How the run was started and how it ended."""
        return self.path / "run.json"

    @property
    def readme_file(self) -> Path:
        """For people who find the folder."""
        return self.path / "README.txt"

    @property
    def lock_file(self) -> Path:
        """Held by the process that writes to the folder."""
        return self.path / ".lock"

    @property
    def log_file(self) -> Path:
        """Training and validation, by step; not there when the run logs elsewhere."""
        return self.path / "logs" / "metrics.csv"

    @property
    def splits_file(self) -> Path:
        """The split of every image."""
        return self.path / "splits.parquet"

    @property
    def balance_file(self) -> Path:
        """How evenly every finding is spread over the splits."""
        return self.path / "split_balance.csv"

    @property
    def quarantine_file(self) -> Path:
        """Images that could not be read."""
        return self.path / "quarantine.csv"

    @property
    def plan_file(self) -> Path:
        """The memory that was predicted."""
        return self.path / "memory.json"

    @property
    def summary_file(self) -> Path:
        """The run in a few numbers."""
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of the adapters."""
        return self.path / "checkpoints"

    def adapter(self, name: str) -> Path:
        """The folder of the adapter called `name`: best or last."""
        return self.checkpoints / name

    def export(self, checkpoint: str) -> Path:
        """Where the merged model of a checkpoint goes, unless another folder is asked for."""
        return self.path / "export" / checkpoint

    def evaluation(self, split: str, checkpoint: str) -> Path:
        """Where the evaluation of a checkpoint on a split is written."""
        return self.path / "evaluation" / (split if checkpoint == "best" else f"{split}_{checkpoint}")

    def losses_file(self, checkpoint: str) -> Path:
        """The loss of a checkpoint on every training image."""
        return self.evaluation("train", checkpoint) / "losses.csv"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes strict JSON, readable by people; see `write_text`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file; an earlier one is replaced at once or not at all."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
