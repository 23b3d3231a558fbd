"""What has a process of its own for each setting: its forecast, and its measurement.

A process begins with an empty card and leaves nothing behind, whatever becomes of it: neither tensors after it ran out
of memory, nor the pages of bitsandbytes' optimisers, which are never given back.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from experiments.gpu_12gb.settings import BUDGET_GIB, adapters_of, settings_of
from experiments.results import Values

if TYPE_CHECKING:
    from experiments.gpu_12gb.card import Card
    from xrayexp.memory.step import StepShape
    from xrayexp.settings import Settings

MEASURED, OUT_OF_MEMORY = "measured", "out of memory"


def forecast(job: Values) -> Values:
    """What `xrayexp plan` says of the setting's training step, in GiB.

    Args:
        job: `setting`, `overrides`, and `work`, the folder where plans are kept.
    """
    from xrayexp.planning import Planner

    settings = settings_of(job["overrides"], Path(job["work"]))
    with adapters_of(job["setting"]["method"]):
        found = Planner(settings, on_cpu=settings.trainer.accelerator == "cpu").forecast(settings)
    step = replace(found, generation=found.training)  # reports are not generated here
    return asdict(found.training) | {
        "context": found.context_gib,
        "card": step.card_gib,
        "verdict": step.verdict(BUDGET_GIB),
    }


def measure(job: Values) -> Values:
    """What the setting's steps really take.

    Args:
        job: as for `forecast`; `device`, cuda or cpu; and `steps`, how many are timed.
    """
    from experiments.gpu_12gb.card import Card, used_by_others_gib
    from xrayexp.memory.segments import use_expandable_segments
    from xrayexp.quiet import quiet_libraries

    use_expandable_segments(True)  # the configs' choice, with which the plan reckons
    # First of all, since bitsandbytes starts CUDA where it is imported.
    card = Card(used_by_others_gib()) if job["device"] == "cuda" else None
    quiet_libraries()
    settings, method = settings_of(job["overrides"], Path(job["work"])), job["setting"]["method"]
    return on_cpu(settings, method, job["steps"]) if card is None else on_gpu(card, settings, method, job["steps"])


def on_gpu(card: Card, settings: Settings, method: str, steps: int) -> Values:
    """Peaks in the steady state on a GPU that is limited to `BUDGET_GIB`."""
    import torch

    from experiments.gpu_12gb.operations import operations
    from experiments.gpu_12gb.training import Training
    from xrayexp.memory.measure import GIB, forget_peak

    facts = {"device": card.name, "others": card.others_gib}
    try:
        card.limit(BUDGET_GIB, card.context_gib())
        training = Training.begin(settings, method)
        torch.cuda.empty_cache()  # what loading left
        training.step()  # makes the optimiser's state and cuBLAS's workspaces, and loads kernels
        room = card.limit(BUDGET_GIB, card.context_gib(training.paged))
        forget_peak(settings.trainer.device)
        seconds = [_seconds(training.step, torch.cuda.synchronize) for _ in range(steps)]
    except torch.OutOfMemoryError as error:
        return facts | {"outcome": OUT_OF_MEMORY, "reason": str(error).partition(". ")[0]}
    peaks = {
        "allocated": torch.cuda.max_memory_allocated() / GIB,
        "paged": training.paged / GIB,
        "reserved": torch.cuda.max_memory_reserved() / GIB,
        "context": card.context_gib(training.paged),
        "room": room,
    }
    peaks["card"] = peaks["reserved"] + peaks["paged"] + peaks["context"]
    pace = _pace(training.shape, seconds, operations(training.model, training.shape), card.name)
    return facts | {"outcome": MEASURED, "measured": peaks, "pace": pace}


def on_cpu(settings: Settings, method: str, steps: int) -> Values:
    """The same from the allocator's events, to see that everything works: a CPU has no limit, context or segments."""
    import torch

    from experiments.gpu_12gb.operations import operations
    from experiments.gpu_12gb.training import Training
    from xrayexp.memory.measure import GIB, allocated_on_cpu

    try:
        training = Training.begin(settings, method)
        training.step()
        training.optimizer.zero_grad()
        allocated = (training.standing + allocated_on_cpu(training.step)) / GIB
        seconds = [_seconds(training.step, _nothing) for _ in range(steps)]
    except torch.OutOfMemoryError as error:
        return {"device": "cpu", "outcome": OUT_OF_MEMORY, "reason": str(error).partition(". ")[0]}
    pace = _pace(training.shape, seconds, operations(training.model, training.shape), "cpu")
    return {"device": "cpu", "outcome": MEASURED, "measured": {"allocated": allocated, "paged": 0.0}, "pace": pace}


def _seconds(step: Callable[[], float], wait: Callable[[], None]) -> float:
    wait()
    started = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - started


def _nothing() -> None:
    pass


def _pace(shape: StepShape, seconds: list[float], needed: float, card: str) -> Values:
    """How fast it goes: seconds of an optimiser step; tokens, those of images too, and operations a second."""
    from experiments.gpu_12gb.operations import peak_tflops
    from experiments.gpu_12gb.settings import MICRO_BATCHES

    middle, peak = median(seconds), peak_tflops(card)
    tflops = MICRO_BATCHES * needed / middle / 1e12
    return {
        "seconds": middle,
        "tokens_per_s": MICRO_BATCHES * shape.samples * shape.tokens / middle,
        "tflops": tflops,
        "share_of_peak": None if peak is None else tflops / peak,
    }


TASKS = {"forecast": forecast, "measure": measure}

if __name__ == "__main__":
    task, job, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(TASKS[task](json.loads(job))), encoding="utf-8")
