"""One row of the study: a run that nothing disturbed, the same run killed and resumed, and how they differ."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from experiments.results import Row, Values
from experiments.study import ROOT, Place

VALIDATE_EVERY, CHECKPOINT_EVERY = 5, 3  # so that checkpoints fall before, on and after validations
EFFECTIVE_BATCH = 8  # of 96 training images: 12 steps an epoch


def compute(row: Row, place: Place) -> Values:
    """Runs `python train.py` twice in processes of its own; the second is killed and resumed."""
    folder = place.work / "-".join(
        str(row.settings[name]) for name in ("adapter", "dropout", "accumulation", "workers")
    )
    shutil.rmtree(folder, ignore_errors=True)  # what a row left that was cut off
    whole, broken = folder / "whole", folder / "broken"
    _train(row, whole, kills=[])
    killed = _train(row, broken, kills=row.settings["kills"])
    return _compare(whole, broken) | {"killed": killed, "kills": row.settings["kills"]}


def _train(row: Row, run: Path, kills: list[list[Any]]) -> int:
    """Trains, and resumes until training ends; returns how often it was killed."""
    command = [sys.executable, str(ROOT / "train.py")]
    done = _start([*command, *_overrides(row, run, kills)])
    killed = 0
    while done.returncode == -9:
        killed += 1
        # A run that was killed before its first checkpoint begins anew.
        saved = any((run / "checkpoints").glob("*.ckpt"))
        if not saved:
            shutil.rmtree(run)
        done = _start([*command, f"resume={run}"] if saved else [*command, *_overrides(row, run, kills)])
    if done.returncode != 0:
        raise RuntimeError(f"train.py ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    if killed != len(kills):
        raise RuntimeError(f"{len(kills)} kills were planned and {killed} happened")
    return killed


def _start(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def _overrides(row: Row, run: Path, kills: list[list[Any]]) -> list[str]:
    settings = row.settings
    package = "experiments.resume_exactness.instruments"
    beside = run.parent / f"{run.name}-marks"
    beside.mkdir(parents=True, exist_ok=True)
    return [
        f"adapter={settings['adapter']}",
        f"adapter.dropout={settings['dropout']}",
        f"data.num_workers={settings['workers']}",
        "data.source.patients=200",
        "data.max_images={train: 96, validation: 6, test: 4}",
        f"trainer.effective_batch_size={EFFECTIVE_BATCH}",
        f"trainer.micro_batch_size={EFFECTIVE_BATCH // settings['accumulation']}",
        f"trainer.max_steps={settings['steps']}",
        f"trainer.validate_every={VALIDATE_EVERY if settings['steps'] > VALIDATE_EVERY else 2}",
        f"trainer.checkpoint_every={CHECKPOINT_EVERY if settings['steps'] > VALIDATE_EVERY else 1}",
        "trainer.log_every=1",
        "model.max_new_tokens=8",
        "test=false",
        f"hydra.run.dir={run}",
        f"+callbacks.trace._target_={package}.Trace",
        f"+callbacks.trace.file={beside / 'trace.jsonl'}",
        *(
            f"+callbacks.kill{number}.{name}={value}"
            for number, (step, moment) in enumerate(kills)
            for name, value in {
                "_target_": f"{package}.Kill", "step": step, "moment": moment, "mark": beside / str(number)
            }.items()
        ),
    ]  # fmt: skip


def _compare(whole: Path, broken: Path) -> Values:
    (expected, _), (found, repeated) = (_trace(run) for run in (whole, broken))
    steps = sorted(expected.keys() | found.keys())
    one, other = ({name: w.double() for name, w in _weights(run).items()} for run in (whole, broken))
    newest = sorted((broken / "checkpoints").glob("*.ckpt"))[-1]
    return {
        "steps": len(steps),
        "repeated": repeated,
        "wrong_steps": sum(expected.get(s, {}).get("images") != found.get(s, {}).get("images") for s in steps),
        "loss_difference": max(abs(_number(expected[s], "loss") - _number(found[s], "loss")) for s in steps),
        "norm_difference": max(abs(_number(expected[s], "grad_norm") - _number(found[s], "grad_norm")) for s in steps),
        "rate_difference": max(abs(_number(expected[s], "lr") - _number(found[s], "lr")) for s in steps),
        "weight_difference": max(float((one[name] - other[name]).abs().max()) for name in one),
        "wrong_validations": int(_validations(whole) != _validations(broken)),
        "bytes": newest.stat().st_size,
        "seconds": json.loads((whole / "summary.json").read_text())["checkpoint_seconds"],
    }


def _trace(run: Path) -> tuple[dict[int, Any], int]:
    """The last line of every step, and how many steps were taken again."""
    lines = [json.loads(line) for line in (run.parent / f"{run.name}-marks" / "trace.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines}, len(lines) - len({line["step"] for line in lines})


def _number(line: Any, name: str) -> float:
    return float.fromhex(line[name])


def _weights(run: Path) -> dict[str, Any]:
    return load_file(run / "checkpoints" / "last" / "adapter_model.safetensors")


def _validations(run: Path) -> list[tuple[str, str]]:
    """(step, score) of every validation in the log."""
    with (run / "logs" / "metrics.csv").open(encoding="utf-8") as file:
        return [(row["step"], row["val/micro_f1"]) for row in csv.DictReader(file) if row["val/micro_f1"]]
