"""One row of the study: the model is built, or `python train.py` takes two steps with it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from experiments.full_size_cpu.model import architecture, build
from experiments.full_size_cpu.prediction import predict
from experiments.full_size_cpu.witness import PROCESS
from experiments.results import Row, Values
from experiments.study import ROOT, Place
from xrayexp.errors import UserError

STEPS = 2
# One sample a step, where the model's defaults are 32: a step of those takes half an hour.
COMMAND = (
    "model=medgemma15",
    "data=phantom",
    "trainer=cpu",
    f"trainer.max_steps={STEPS}",
    "trainer.effective_batch_size=1",
)


def compute(row: Row, place: Place) -> Values:
    """The values of a row; the work is done in processes of its own, whose memory and time are measured.

    Raises:
        UserError: the resident memory of a process cannot be measured here.
    """
    if not (PROCESS / "clear_refs").exists():
        raise UserError("this experiment reads the memory of its processes from /proc: it needs Linux")
    layers = row.settings["layers"]
    folder = model_folder(place, layers)
    if "adapter" not in row.settings:
        return _in_process(build, folder, architecture(layers))
    if not folder.exists():  # removed since its row was recorded
        _in_process(build, folder, architecture(layers))
    return _trained(row, place, folder)


def model_folder(place: Place, layers: int | None) -> Path:
    """Where the model is kept."""
    assert place.models is not None
    return place.models / ("medgemma-random" if layers is None else f"medgemma-random-{layers}-layers")


def _in_process(function: Callable[..., Values], *arguments: object) -> Values:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin) as process:
        return process.submit(function, *arguments).result()


def _begin() -> None:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("xrayexp").setLevel(logging.INFO)


def _trained(row: Row, place: Place, folder: Path) -> Values:
    """What the witness of a run saw, and what was predicted for its largest step."""
    run = place.work / row.key.replace(" ", "-")
    shutil.rmtree(run, ignore_errors=True)  # what a row left that was cut off
    seen = run.with_suffix(".json")
    overrides = [
        *COMMAND,
        f"adapter={row.settings['adapter']}",
        f"trainer.precision={row.settings['precision']}",
        f"model.pretrained={folder}",
    ]
    _train(
        [
            *overrides,
            f"hydra.run.dir={run}",
            "+callbacks.witness._target_=experiments.full_size_cpu.witness.Witness",
            f"+callbacks.witness.file={seen}",
        ]
    )
    values: Values = json.loads(seen.read_text(encoding="utf-8"))
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    longest = max(values["steps"], key=lambda step: step["tokens"])
    return {
        **values,
        "trainable_parameters": summary["trainable_parameters"],
        "total_parameters": summary["total_parameters"],
        "predicted": _in_process(predict, overrides, longest["tokens"], longest["supervised"]),
    }


def _train(overrides: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"train.py ended with {done.returncode}:\n{done.stdout}{done.stderr}")
