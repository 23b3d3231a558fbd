"""One row of the study: a run of the same code as `python train.py`, and what is kept of it."""

from __future__ import annotations

import copy
import io
import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from experiments.embedded_default.controls import ShuffledLabels, random_base
from experiments.results import Row, Values
from experiments.study import Place
from xrayexp.config import config_dir, register_resolvers

if TYPE_CHECKING:
    from xrayexp.tracking.summary import EvaluationSummary

SCORES = ("soft_match", "soft_match_jaccard", "exact_match", "exact_match_located", "micro_f1", "unparseable_rate")
PAIRED = ("soft_match", "exact_match")  # scores whose outcome is kept for every image
COSTS = (
    "fit_cpu_seconds",
    "fit_seconds",
    "peak_memory_gib",
    "steps",
    "best_step",
    "trainable_parameters",
    "total_parameters",
)
SHOWN_FINDINGS = 3  # the first test image with so many findings is shown


def composed(config: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of `python train.py OVERRIDES`, to be changed at will."""
    return copy.deepcopy(_composed(config, tuple(overrides)))


@cache
def _composed(config: str, overrides: tuple[str, ...]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(config, overrides=list(overrides))


def digest(overrides: Sequence[str]) -> str:
    """Of the whole resolved config, so that a row is computed again after a default has changed."""
    cfg = composed("train", overrides)
    cfg.paths.output_dir = ""
    resolved = OmegaConf.to_container(cfg, resolve=True)
    return sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:12]


def compute(row: Row, place: Place) -> Values:
    """Trains and tests as the row's settings say, or only tests where there is no adapter to train."""
    logging.basicConfig(format=f"{row.key} | %(message)s", force=True)
    logging.getLogger("xrayexp").setLevel(logging.INFO)
    folder = place.work / row.key
    shutil.rmtree(folder, ignore_errors=True)  # what a run left that was cut off
    cfg = composed("train", row.settings["overrides"])
    cfg.paths.output_dir = str(folder)
    # Rows may run at the same time, where two progress bars would overwrite each other: plain lines.
    with redirect_stdout(io.StringIO()):
        match row.settings["variant"]:
            case "no adapter":
                return _tested(cfg, folder)
            case "random base":
                cfg.model.pretrained = random_base(cfg.model.pretrained, place.work / "random_weights")
            case "shuffled labels":
                cfg.data.source = _shuffled(cfg)
        return _trained(cfg)


def _shuffled(cfg: DictConfig) -> dict[str, Any]:
    return {
        "_target_": f"{ShuffledLabels.__module__}.{ShuffledLabels.__qualname__}",
        "source": cfg.data.source,
        "shares": cfg.data.split.shares,
        "split_seed": cfg.data.split.seed,
    }


def _trained(cfg: DictConfig) -> Values:
    from xrayexp import pipeline

    summary = pipeline.train(cfg)
    assert summary.evaluation is not None, "test=true is the default of model=tiny"
    return _scores(summary.evaluation) | {name: getattr(summary, name) for name in COSTS}


def _tested(cfg: DictConfig, folder: Path) -> Values:
    """The base as it is, loaded and asked as a run with an adapter would."""
    from xrayexp import pipeline
    from xrayexp.settings import Settings
    from xrayexp.tracking.run_folder import RunFolder
    from xrayexp.tracking.summary import EvaluationSummary

    RunFolder.new(folder).write_config(Settings.from_config(cfg).cfg)
    evaluation = composed("evaluate", ["checkpoint=none", f"metrics.bootstrap={cfg.metrics.bootstrap}"])
    evaluation.run = str(folder)
    summary = pipeline.evaluate(evaluation)
    assert isinstance(summary, EvaluationSummary)
    return _scores(summary)


def _scores(evaluation: EvaluationSummary) -> Values:
    lines = (evaluation.folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    predictions = sorted((json.loads(line) for line in lines), key=lambda line: line["image_id"])
    patients = sorted({line["patient_id"] for line in predictions})
    return {
        "images": len(predictions),
        "metrics": {name: evaluation.metrics.estimates[name].to_json() for name in SCORES},
        # One character, or one number, for every image in the order of their names.
        "outcomes": {name: "".join(str(int(line["scores"][name])) for line in predictions) for name in PAIRED},
        "patients": " ".join(str(patients.index(line["patient_id"])) for line in predictions),
        "shown": _shown(predictions),
    }


def _shown(predictions: Sequence[Values]) -> Values:
    """The prediction for the README's picture, chosen by its true findings alone."""
    chosen = next((line for line in predictions if len(line["truth"]) == SHOWN_FINDINGS), predictions[0])
    return {name: chosen[name] for name in ("image_id", "truth", "text", "predicted")}
