"""The F1 of single findings as loggers get it: under which keys, and of which findings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xrayexp.errors import DataError
from xrayexp.metrics.scores import FINDINGS, Scores
from xrayexp.tracking.listing import run_folders
from xrayexp.tracking.run_folder import RunFolder

MOST = 30  # findings; PadChest has nearly two hundred, most of them of a few images


def finding_key(split: str, finding: str) -> str:
    """Where a finding's F1 stands, such as test/finding_f1/pleural_effusion: W&B wants no spaces and no dots."""
    return f"{split}/finding_f1/{re.sub(r'[^a-z0-9]+', '_', finding.lower()).strip('_')}"


def finding_f1(scores: Scores, split: str) -> dict[str, float]:
    """F1 by key of the most frequent findings that are true at least once; empty where findings were not scored."""
    return {finding_key(split, one.name): one.f1.value for one in scores.findings[:MOST] if one.support}


def frequent_findings(runs: Iterable[Path], split: str = "test") -> list[str]:
    """The most frequent findings of the runs' evaluations on a split, the most frequent one first.

    Args:
        runs: folders of runs.
        split: whose evaluations are read; a run without one adds nothing.

    Raises:
        DataError: the scores of a run cannot be read.
    """
    support: dict[str, int] = {}
    for run in runs:
        file = RunFolder(run).evaluation(split, "best") / "metrics.json"
        for finding, score in (_findings(file) if file.exists() else {}).items():
            support[finding] = max(score["support"], support.get(finding, 0))
    return sorted((one for one in support if support[one]), key=lambda one: -support[one])[:MOST]


def runs_below(folder: Path) -> list[Path]:
    """The folders of all runs in a folder and below; none where there is no such folder."""
    return list(run_folders(folder)) if folder.is_dir() else []


def _findings(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")).get(FINDINGS, {})
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    return found
