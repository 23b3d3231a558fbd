"""What `evaluate.py` is asked for, checked: a run, predictions that are there already, or a model that is asked now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xrayexp.baselines.config import BaselineSection
from xrayexp.config import parse_section
from xrayexp.data.config import DataSection
from xrayexp.data.prompt import PromptSection
from xrayexp.errors import ConfigError
from xrayexp.metrics.config import MetricsSection
from xrayexp.models.config import ATTENTION, QuantizationSection
from xrayexp.training.sampling import Sampling

CHECKPOINTS = ("best", "last", "none")
SPLITS = ("validation", "test")
MISSING = ("refuse", "wrong", "drop")
SUBJECTS = ("run", "predictions", "pretrained")
ACCELERATORS = ("cpu", "gpu")


@dataclass(frozen=True)
class Request:
    """The config of conf/evaluate.yaml with types.

    Attributes:
        run: folder of a run; or None.
        predictions: file of predictions; or None.
        pretrained: folder or hub id of a model; or None. Exactly one of the three is given.
        split: of the data.
        checkpoint: of the run.
        batch_size: images asked about together; None for the run's, and 1 for a model.
        accelerator: cpu or gpu; None for the run's, and what there is for a model.
        data_root: folder of the data set on this machine; None for the config's.
        missing: what becomes of images without prediction, one of `MISSING`.
        attention: transformers' attention implementation, of a model.
        output_dir: where the evaluation of predictions or of a model is written.
        sampling: reports at random beside the greedy one; None for none.
        data: the data set, with its config as it was composed; None for the run's, or the truth in the predictions.
        prompt: how a model is asked, and answers are read.
        quantization: of a model.
        metrics: what is computed.
        baseline: what stands beside the run; None for nothing.
    """

    run: Path | None
    predictions: Path | None
    pretrained: str | None
    split: str
    checkpoint: str
    batch_size: int | None
    accelerator: str | None
    data_root: str | None
    missing: str
    attention: str
    output_dir: Path
    sampling: Sampling | None
    data: tuple[DataSection, DictConfig] | None
    prompt: PromptSection
    quantization: QuantizationSection
    metrics: MetricsSection
    baseline: BaselineSection | None

    @property
    def asked(self) -> str:
        """What a run is asked about: a split of its own data, or another data set; the name of the folder."""
        return self.split if self.data is None else self.data[0].name

    @classmethod
    def from_config(cls, cfg: DictConfig) -> Request:
        """Reads a composed config.

        Raises:
            ConfigError: with everything that is wrong in it.
        """
        problems = _problems(cfg)
        data = _data(cfg, problems)
        sections: dict[str, Any] = {
            "prompt": parse_section(cfg, "prompt", PromptSection, problems),
            "quantization": parse_section(cfg, "quantization", QuantizationSection, problems),
            "metrics": parse_section(cfg, "metrics", MetricsSection, problems),
        }
        given = OmegaConf.select(cfg, "baseline") is not None
        sections["baseline"] = parse_section(cfg, "baseline", BaselineSection, problems) if given else None
        if problems:
            raise ConfigError(problems)
        scalars = {
            name: cfg[name]
            for name in (
                "pretrained",
                "split",
                "checkpoint",
                "batch_size",
                "accelerator",
                "data_root",
                "missing",
                "attention",
            )
        }
        run, predictions = (None if cfg[name] is None else Path(str(cfg[name])) for name in ("run", "predictions"))
        folder = Path(str(cfg.output_dir))
        sections["sampling"] = Sampling(cfg.samples, float(cfg.temperature), cfg.seed) if cfg.samples else None
        return cls(run=run, predictions=predictions, output_dir=folder, data=data, **scalars, **sections)


def _problems(cfg: DictConfig) -> list[str]:
    """What is wrong with the single keys."""
    problems = []
    given = [name for name in SUBJECTS if cfg[name] is not None]
    if not given:
        problems.append(
            "run is missing: python evaluate.py run=outputs/...; or give predictions=FILE, or pretrained=MODEL"
        )
    elif len(given) > 1:
        problems.append(f"{' and '.join(given)} are given: evaluate one of them at a time")
    if given == ["pretrained"] and OmegaConf.select(cfg, "data") is None:
        problems.append("data is missing: say what the model is asked about, such as data=padchest or data=vindr")
    if OmegaConf.select(cfg, "baseline") is not None and given not in ([], ["run"]):
        problems.append("baseline is made of a run's training split: give run=outputs/..., or leave it out")
    for name, known in (("split", SPLITS), ("checkpoint", CHECKPOINTS), ("missing", MISSING), ("attention", ATTENTION)):
        if cfg[name] not in known:
            problems.append(f"{name} must be one of {', '.join(known)}, not '{cfg[name]}'")
    if cfg.accelerator is not None and cfg.accelerator not in ACCELERATORS:
        problems.append(f"accelerator must be cpu, gpu or null, not '{cfg.accelerator}'")
    size = cfg.batch_size
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        problems.append(f"batch_size must be a whole number of at least 1 or null, not {size}")
    return problems + _sampling_problems(cfg, given)


def _sampling_problems(cfg: DictConfig, given: list[str]) -> list[str]:
    """What is wrong with the keys of reports at random."""
    problems = [
        f"{name} must be a whole number of at least 0, not {cfg[name]}"
        for name in ("samples", "seed")
        if not isinstance(cfg[name], int) or isinstance(cfg[name], bool) or cfg[name] < 0
    ]
    if isinstance(cfg.temperature, bool) or not isinstance(cfg.temperature, int | float) or not cfg.temperature > 0:
        problems.append(f"temperature must be a number above 0, not {cfg.temperature}")
    if cfg.samples and given == ["predictions"]:
        problems.append("samples are drawn by a model: leave them out, or give run=... or pretrained=...")
    return problems


def _data(cfg: DictConfig, problems: list[str]) -> tuple[DataSection, DictConfig] | None:
    """The data set that is asked for, in the folder that is asked for."""
    if OmegaConf.select(cfg, "data") is None:
        return None
    if cfg.data_root is not None:
        if "root" not in cfg.data.source:
            problems.append(f"data={cfg.data.name} has no folder: leave data_root out")
            return None
        OmegaConf.update(cfg, "data.root", cfg.data_root)
    section = parse_section(cfg, "data", DataSection, problems)
    if section is None:
        return None
    resolved = OmegaConf.create(OmegaConf.to_container(cfg.data, resolve=True))
    assert isinstance(resolved, DictConfig)
    return section, resolved
