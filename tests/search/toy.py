"""A program without a model: `python toy.py hydra.sweep.dir=FOLDER ...`; its jobs leave a line for every start."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from xrayexp.errors import UserError
from xrayexp.search.job import Outcome, TrialJob

CONF = Path(__file__).with_name("toy_conf")


def too_large(cfg: DictConfig, most: float) -> float:
    """A constraint: what x is above `most`."""
    return float(cfg.x) - most


def as_trial(score: float, waits: bool) -> dict[str, object]:
    """What xrayexp.trial does around a training: a lock, and an outcome that is left behind."""
    job = TrialJob.from_environment()
    assert job is not None
    with job.held():
        while waits and not (Path(job.sweep) / "go").exists():
            time.sleep(0.05)
        outcome = Outcome("complete", {"score": score})
        job.write(outcome)
    return outcome.to_json()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="toy")
def main(cfg: DictConfig) -> object:
    folder = Path(HydraConfig.get().runtime.output_dir)
    with (folder / "starts.txt").open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    match cfg.behaviour:
        case "fail":
            raise RuntimeError("this toy is broken")
        case "exit":
            sys.exit(3)
        case "die":
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        case "nothing":
            return None
        case "trial" | "wait":
            return as_trial(cfg.x + cfg.n, waits=cfg.behaviour == "wait")
    return cfg.x + cfg.n


if __name__ == "__main__":
    sys.argv.append("hydra.searchpath=[file://" + str(Path(__file__).parents[2] / "conf") + "]")
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
