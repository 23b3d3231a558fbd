"""Plans full-size trainings with each saving switched off in turn, and measures what planning itself costs.

python experiments/memory_plan/run.py       one row after the other: two at a time would disturb each other
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.results import Claim, Row, Rows, Values, table
from experiments.study import ROOT, Place, Study, main

if TYPE_CHECKING:
    from xrayexp.memory.plan import Forecast
    from xrayexp.settings import Settings

FULL = ("model=medgemma15", "adapter=dora", "trainer.micro_batch_size=4")
TINY = ("adapter=dora", "adapter.target=language", "trainer.accelerator=gpu", "memory=budget_12gb",
        "optimizer=paged_adamw_8bit", "trainer.gradient_checkpointing=true", "trainer.feature_cache=step",
        "trainer.loss_chunk=16", "trainer.micro_batch_size=4")  # fmt: skip
FRESH = "memory.cache_dir=null"
CHANGES = {
    "as first planned": (),
    "micro-batch of 2": ("trainer.micro_batch_size=2",),
    "micro-batch of 1": ("trainer.micro_batch_size=1",),
    "shorter samples": ("model.max_length={shorter}",),
    "shorter samples, micro-batch of 8": ("model.max_length={shorter}", "trainer.micro_batch_size=8"),
}
# What is written when a saving is switched off, or when something is asked for that costs.
WITHOUT = {
    "logits in chunks": ("trainer.loss_chunk=null",),
    "gradient checkpointing": ("trainer.gradient_checkpointing=false",),
    "half of the layers checkpointed": ("trainer.checkpoint_layers=17",),
    "features kept in the step": ("trainer.feature_cache=none",),
    "paged 8-bit optimiser": ("optimizer=adamw",),
    "expandable segments": ("memory.expandable_segments=false",),
    "LoRA in place of DoRA": ("adapter=lora",),
    "trained embeddings and head, tied": (
        "adapter.modules_to_save=[lm_head,embed_tokens]", "adapter.ensure_weight_tying=true"
    ),
    "trained embeddings and head, not tied": ("adapter.modules_to_save=[lm_head,embed_tokens]",),
}  # fmt: skip
CARD = 12.0  # GiB
MOST_COLD, MOST_CHANGE, MOST_RSS = 30.0, 5.0, 1.0


def plan(quick: bool) -> list[Row]:
    """The command as a user gives it, changes of one model, savings, and the choice of layers to checkpoint."""
    base = list(TINY if quick else FULL)
    few = {"changes": [*CHANGES][:2], "savings": [*WITHOUT][:2]} if quick else {}
    names = {"command": [], "changes": [*CHANGES], "savings": [*WITHOUT], "fewest layers": []} | few
    return [Row(key, {"overrides": base, "names": names[key]}) for key in names]


def compute(row: Row, place: Place) -> Values:
    """The values of one row."""
    measure = {"command": _command, "changes": _changes, "savings": _savings, "fewest layers": _fewest_layers}
    return measure[row.key](tuple(row.settings["overrides"]), row.settings["names"])


def _command(base: tuple[str, ...], _: list[str]) -> Values:
    """CPU seconds and memory of `xrayexp plan`, imports included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "xrayexp.cli", "plan", *base, FRESH]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": cpu, "rss_gib": after.ru_maxrss * 1024 / 2**30}


def _changes(base: tuple[str, ...], names: list[str]) -> Values:
    """CPU seconds of one planner that is asked for one setting after the other."""
    from xrayexp.planning import Planner

    first = _settings(base)
    planner, values = Planner(first), {}
    for name in names:
        asked = [override.format(shorter=first.model.max_length // 2) for override in CHANGES[name]]
        settings, begin = _settings((*base, *asked)), time.process_time()
        forecast = planner.forecast(settings)
        values[name] = {"cpu_seconds": time.process_time() - begin, **_numbers(forecast)}
    return values


def _savings(base: tuple[str, ...], names: list[str]) -> Values:
    """The forecast with everything on, and with each saving off."""
    from xrayexp.planning import Planner

    planner, values = Planner(_settings(base)), {}
    for name in ("everything", *names):
        values[name] = _numbers(planner.forecast(_settings((*base, *WITHOUT.get(name, ())))))
    return values


def _fewest_layers(base: tuple[str, ...], _: list[str]) -> Values:
    """What `trainer.checkpoint_layers=auto` chooses, and what it costs to find out."""
    from xrayexp.planning import Planner

    settings = _settings(base)
    planner, begin = Planner(settings), time.process_time()
    layers = planner.fewest_checkpointed_layers(settings, CARD)
    return {"layers": layers, "cpu_seconds": time.process_time() - begin}


def _settings(overrides: tuple[str, ...]) -> Settings:
    from xrayexp.config import training_config
    from xrayexp.settings import Settings

    return Settings.from_config(training_config([*overrides, FRESH, "paths.output_dir=outputs/plan"]))


def _numbers(forecast: Forecast) -> dict[str, Any]:
    training = forecast.training
    whole = sum(size for name, size in training.parts.items() if "trained whole" in name)
    return {
        "allocated_gib": training.allocated,
        "reserved_gib": training.reserved,
        "card_gib": forecast.card_gib,
        "whole_gib": whole,
        "verdict": forecast.verdict(CARD),
    }


def claims(rows: Rows) -> list[Claim]:
    """What a plan may cost, that the default fits, and that every saving saves."""
    changes = [value["cpu_seconds"] for name, value in rows["changes"].items() if name != "as first planned"]
    base = rows["savings"]["everything"]
    gains = [_gain(rows, name) for name in ("logits in chunks", "gradient checkpointing")]
    return [
        Claim("CPU seconds of a first plan", rows["command"]["cpu_seconds"], MOST_COLD, "at most"),
        Claim("CPU seconds when only batch or length change, worst", max(changes), MOST_CHANGE, "at most"),
        Claim("GiB of memory that planning takes", rows["command"]["rss_gib"], MOST_RSS, "at most"),
        Claim("GiB of a card, DoRA r=32, 4 x 1024 tokens, times the margin", 1.1 * base["reserved_gib"]
              + base["card_gib"] - base["reserved_gib"], CARD, "at most"),
        Claim("GiB that chunks and checkpointing save, the lesser of both", min(gains), 0.0, "at least"),
    ]  # fmt: skip


def _gain(rows: Rows, name: str) -> float:
    found: float = rows["savings"][name]["allocated_gib"] - rows["savings"]["everything"]["allocated_gib"]
    return found


def blocks(rows: Rows) -> dict[str, str]:
    base = rows["savings"]["everything"]
    lines = [["everything on", f"{base['allocated_gib']:.2f}", f"{base['reserved_gib']:.2f}", "", base["verdict"]]]
    for name, value in rows["savings"].items():
        if name == "everything":
            continue
        changed = f"{_gain(rows, name):+.2f} / {value['reserved_gib'] - base['reserved_gib']:+.2f}"
        label = name if name.startswith(("LoRA", "trained", "half")) else f"without {name}"
        lines.append(
            [label, f"{value['allocated_gib']:.2f}", f"{value['reserved_gib']:.2f}", changed, value["verdict"]]
        )
    costs = [[name, f"{value['cpu_seconds']:.1f}"] for name, value in rows["changes"].items()]
    fewest = rows["fewest layers"]
    costs.append([f"trainer.checkpoint_layers=auto (chooses {fewest['layers']})", f"{fewest['cpu_seconds']:.1f}"])
    return {
        "savings": table(["setting", "allocated, GiB", "reserved, GiB", "difference", "on 12 GiB"], lines),
        "cost": table(["plan", "CPU seconds"], costs),
    }


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks)

if __name__ == "__main__":
    main(STUDY)
