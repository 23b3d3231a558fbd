"""CheXpert's observations, and which of PadChest's labels stand for each: one table for data sets and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from xrayexp.errors import ConfigError, DataError

TABLE = Path(__file__).with_name("observations.yaml")

NO_FINDING, SUPPORT_DEVICES = "No Finding", "Support Devices"
OBSERVATIONS = (
    NO_FINDING, "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", SUPPORT_DEVICES,
)  # fmt: skip
"""Irvin et al., CheXpert (AAAI 2019), in the order of its label files."""
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""Those of its competition, and of CheXbert's top-5 F1."""


def read_observations(path: Path = TABLE) -> dict[str, tuple[str, ...]]:
    """PadChest's labels of every observation but No Finding.

    Args:
        path: a YAML of observations, each with its list of labels.

    Raises:
        DataError: the file cannot be read, or is no mapping to lists.
        ConfigError: it lacks an observation or has an unknown one.
    """
    try:
        table: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as a table of labels ({error})") from error
    if not isinstance(table, dict) or not all(isinstance(labels or [], list) for labels in table.values()):
        raise DataError(f"{path}: is no table of observations with a list of labels each")
    if wrong := (set(OBSERVATIONS) - {NO_FINDING}) ^ set(table):
        raise ConfigError(
            [f"{path}: has to list CheXpert's observations but {NO_FINDING}; see {sorted(wrong, key=str)}"]
        )
    return {observation: tuple(labels or ()) for observation, labels in table.items()}
