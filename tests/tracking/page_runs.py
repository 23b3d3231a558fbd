"""Runs that were never trained: a config, predictions of a few phantoms, a log; enough to compare and to show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from xrayexp.data.examples import Example, examples_from_table
from xrayexp.data.report import Finding, Report, write_report
from xrayexp.metrics.predictions import prediction_row
from xrayexp.metrics.samples import ScoredReport
from xrayexp.tracking.run_folder import RunFolder

EVIL = "<script>alert(1)</script>"


def phantoms(cfg: DictConfig) -> Sequence[Example]:
    """The images of the config's phantoms."""
    return examples_from_table(instantiate(cfg.data.source, _convert_="all").table())


def write_run(folder: Path, cfg: DictConfig, examples: Sequence[Example], error: float, **choices: Any) -> RunFolder:
    """A run whose predictions are wrong for a share of the images, and evil for the first if there are many."""
    run = RunFolder(folder)
    content: Any = OmegaConf.to_container(cfg, resolve=True)
    run.write_config(content | choices)
    started = {"started": "2026-01-31T12:00:00+00:00"}
    run.record_file.write_text(json.dumps({"overrides": None, "state": "finished", "starts": [started]}))
    run.log_file.parent.mkdir()
    run.log_file.write_text("step,train/loss,val/micro_f1\n10,1.5,\n10,,0.25\n20,0.5,\n20,,0.5\n")
    rng = np.random.default_rng(int(100 * error))
    reports = [
        _prediction(example, index == 0 and error > 0.3, rng.random() < error) for index, example in enumerate(examples)
    ]
    write_predictions(run.evaluation("test", "best"), reports)
    return run


def write_predictions(folder: Path, reports: Sequence[ScoredReport], metrics: Mapping[str, Any] | None = None) -> Path:
    """An evaluation's folder."""
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(prediction_row(report)) + "\n" for report in reports)
    (folder / "predictions.jsonl").write_text(lines)
    (folder / "metrics.json").write_text(json.dumps(metrics or {"training_shares": {"normal": 0.3}}))
    return folder


def _prediction(example: Example, evil: bool, wrong: bool) -> ScoredReport:
    mass = Finding("mass", ("left",))
    said = (mass, *example.findings[1:]) if wrong else example.findings
    if evil:
        said = (Finding(EVIL, (EVIL,)), mass, Finding("pneumonia"), Finding("pneumoperitoneo"))
    return ScoredReport(
        image_id=example.image_id,
        patient_id=example.patient_id,
        truth=Report(example.findings),
        predicted=Report(said),
        truth_text=write_report(example.findings),
        predicted_text=f"FINDINGS: {EVIL}" if evil else "",
    )
