"""A sweep that never ran: trials drawn by Optuna from a space with branches, and folders as their jobs leave them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import distribution_to_json

from xrayexp.search.results import SWEEP_FILE, State, TrialRecord, write_json, write_trials
from xrayexp.tracking.run_folder import RunFolder

METRIC, STEPS, EVERY = "val/micro_f1", 100, 20
EVIL = "<script>alert(1)</script>"
BUDGET = 8.0


@dataclass
class Drawn:
    """What one trial draws, in the names of the study."""

    params: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)

    @property
    def overrides(self) -> dict[str, str]:
        return {name.rpartition("/")[2] if "=" in name else name: str(value) for name, value in self.params.items()}


def draw(study: optuna.Study) -> Drawn:
    """The adapter, and what its branch owns."""
    trial = study.ask()
    adapter = trial.suggest_categorical("adapter", ["lora", "dora", "delora", "none"])
    if adapter in ("lora", "dora"):
        trial.suggest_categorical(f"adapter={adapter}/adapter.r", [4, 8, 16, 32])
        trial.suggest_float(f"adapter={adapter}/optimizer.lr", 1e-4, 1e-2, log=True)
    elif adapter == "delora":
        trial.suggest_float("adapter=delora/optimizer.lr", 1e-3, 1e-1, log=True)
    trial.suggest_float("trainer.warmup", 0.0, 0.2)
    frozen = study.trials[trial.number]
    distributions = {name: distribution_to_json(one) for name, one in frozen.distributions.items()}
    return Drawn(dict(frozen.params), distributions)


def write_sweep(folder: Path, cfg: DictConfig, trials: int = 24, seed: int = 0, **about: Any) -> Path:
    """A folder with sweep.json, trials.json and trials/NUMBER."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed))
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    records = [_record(folder, cfg, number, draw(study), rng) for number in range(trials)]
    content = {
        "name": "rank_and_rate",
        "objectives": {METRIC: "maximize"},
        "n_trials": trials + 6,
        "sampler": "TPESampler",
        "pruner": "MedianPruner",
        "fixed": ["trainer.max_steps=100"],
    }
    write_json(folder / SWEEP_FILE, content | about)
    write_trials(folder, records)
    return folder


def _record(folder: Path, cfg: DictConfig, number: int, drawn: Drawn, rng: np.random.Generator) -> TrialRecord:
    rank = next((value for name, value in drawn.params.items() if name.endswith("adapter.r")), 2)
    rate = next((value for name, value in drawn.params.items() if name.endswith("optimizer.lr")), 1e-4)
    memory = 5.0 + 0.1 * rank + (0.8 if drawn.params["adapter"] == "dora" else 0)
    score = float(0.75 - 0.12 * abs(np.log10(rate) + 2.5) + 0.001 * rank + rng.normal(0, 0.01))
    excess = memory - BUDGET
    if excess > 0:
        about = "adapter with 8.8 GiB does not fit into 8" if number else EVIL
        return TrialRecord(
            number, "infeasible", drawn.params, drawn.overrides, drawn.distributions,
            constraints={"memory_gib": excess}, results={"predicted_memory_gib": memory}, reason=about,
        )  # fmt: skip
    curve = [(step, score * (1 - np.exp(-step / 30))) for step in range(EVERY, STEPS + 1, EVERY)]
    state: State = {5: "failed", 6: "out_of_memory", 7: "running"}.get(number % 24, "complete")  # type: ignore[assignment]
    if state == "complete" and score < 0.6 and number % 2:
        state, curve = "pruned", curve[:2]
    steps = curve[-1][0]
    results = {
        "peak_memory_gib": memory, "predicted_memory_gib": memory - 0.1, "fit_seconds": 0.4 * steps * (1 + rank / 40),
        "fit_cpu_seconds": 0.38 * steps, "steps": float(steps), "trainable_parameters": 1000.0 * rank,
        METRIC: curve[-1][1],
    }  # fmt: skip
    measured = state in ("complete", "pruned")
    _write_job(folder / "trials" / str(number), cfg, curve)
    return TrialRecord(
        number, state, drawn.params, drawn.overrides, drawn.distributions,
        values={METRIC: curve[-1][1]} if measured else {},
        results=results if measured else {},
        constraints={"memory_gib": excess, **({"out_of_memory_gib": 0.5} if state == "out_of_memory" else {})},
        reports=curve if measured else [],
        folder=f"trials/{number}",
        reason={"failed": "ValueError: the loss is no number", "out_of_memory": "CUDA out of memory"}.get(state, ""),
    )  # fmt: skip


def _write_job(folder: Path, cfg: DictConfig, curve: list[tuple[int, float]]) -> None:
    run = RunFolder(folder)
    content: Any = OmegaConf.to_container(cfg, resolve=True)
    run.write_config(content)
    run.record_file.write_text(json.dumps({"overrides": None, "state": "finished", "starts": []}))
    run.log_file.parent.mkdir()
    lines = "".join(f"{step},{1 / step},{value}\n" for step, value in curve)
    run.log_file.write_text(f"step,train/loss,{METRIC}\n{lines}")
