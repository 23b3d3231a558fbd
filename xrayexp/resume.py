"""The config of an earlier run, composed again: to go on with it, and to evaluate it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xrayexp.config import quoted, training_config
from xrayexp.errors import ConfigError, DataError
from xrayexp.search.results import SWEEP_FILE
from xrayexp.tracking.record import read_record
from xrayexp.tracking.run_folder import RunFolder

RESUME = "resume="
# What may differ between the processes that work on one sweep: how long, how and where, but not on what.
CHANGEABLE_OF_SWEEP = (
    "search.n_trials", "search.max_failures", "search.seed", "search/sampler", "search/pruner", "hydra"
)  # fmt: skip

# What a run is. Everything else may differ between the beginning and the end of a run.
IDENTITY = (
    "seed",
    "init_from",
    "model",
    "quantization",
    "data",
    "augmentation",
    "curriculum",
    "adapter",
    "optimizer",
    "scheduler",
)
IDENTITY_OF_TRAINER = ("precision", "effective_batch_size", "gradient_clip", "monitor", "loss_chunk")
# Where things lie and how fast they come.
CHANGEABLE = (
    "model.defaults", "model.about", "model.architecture",
    "data.about", "data.root", "data.source.root", "data.requires", "data.num_workers", "data.threads", "data.prefetch",
    "data.cache", "data.source.cache_dir", "data.max_broken_fraction",
    "curriculum.difficulty.losses",  # what is in it is compared by the checkpoint
)  # fmt: skip


def with_earlier_overrides(arguments: Sequence[str]) -> list[str]:
    """The command line of `train.py resume=RUN ...`, with what RUN was started with in front of the rest.

    Args:
        arguments: of the process, without its name.

    Raises:
        ConfigError: with --multirun.
        DataError: RUN is not the folder of a run.
    """
    path = _resumed(arguments)
    if path is None:
        return list(arguments)
    if {"-m", "--multirun"} & set(arguments):
        raise ConfigError(["resume=RUN goes on with one run: leave --multirun out"])
    earlier = read_record(RunFolder.open(Path(path)))["overrides"] or []
    others = [argument for argument in arguments if not argument.startswith(RESUME)]
    folder = quoted(str(Path(path)))
    # Without Hydra's notes: this command line may yet be refused, and .hydra/ has that of the beginning.
    return [*earlier, *others, RESUME + folder, f"hydra.run.dir={folder}", "hydra.output_subdir=null"]


def with_earlier_sweep(arguments: Sequence[str]) -> list[str]:
    """The command line of `sweep.py resume=FOLDER ...`, with what the sweep was started with in front of the rest.

    Args:
        arguments: of the process, without its name.

    Raises:
        ConfigError: a further argument would make other trials.
        DataError: FOLDER is not that of a sweep.
    """
    path = _resumed(arguments)
    if path is None:
        return list(arguments)
    file = Path(path) / SWEEP_FILE
    if not file.is_file():
        raise DataError(f"{path} is not the folder of a sweep: {SWEEP_FILE} is missing")
    others = [argument for argument in arguments if not argument.startswith(RESUME)]
    wrong = [one for one in others if not one.lstrip("+").startswith((*CHANGEABLE_OF_SWEEP, "-"))]
    if wrong:
        raise ConfigError(
            [f"{one}: resume=FOLDER goes on with the same sweep, whose trials would not compare; it takes "
             f"{', '.join(CHANGEABLE_OF_SWEEP)}" for one in wrong]
        )  # fmt: skip
    earlier = json.loads(file.read_text(encoding="utf-8"))["arguments"]
    return [*earlier, *others, f"hydra.sweep.dir={quoted(path)}"]


def _resumed(arguments: Sequence[str]) -> str | None:
    given = [argument for argument in arguments if argument.startswith(RESUME)]
    path = given[-1].removeprefix(RESUME).strip("'\"") if given else ""
    return None if path in ("", "null") else path


def own_overrides() -> list[str] | None:
    """What the user asked of Hydra in this process; None outside of Hydra."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return None
    return [override for override in HydraConfig.get().overrides.task if not override.startswith(RESUME)]


def config_of(run: RunFolder) -> DictConfig:
    """The config of a run, with defaults for what this version knows and the run's did not.

    Raises:
        UserError: the folder holds no run.
    """
    stored = run.config()
    overrides = read_record(run)["overrides"] if run.record_file.exists() else None
    if overrides is None:  # not made from a command line
        return stored
    now = training_config(overrides)
    OmegaConf.set_struct(now, False)
    now.paths = {}  # Hydra's folder, that of this process
    merged = OmegaConf.merge(now, stored)
    assert isinstance(merged, DictConfig)
    for name, section in now.items():
        if isinstance(section, DictConfig) and isinstance(merged[name], DictConfig):
            for key in set(merged[name]) - set(section):  # what this version no longer knows
                del merged[name][key]
    for name in set(merged) - set(now):
        del merged[name]
    merged.paths.output_dir = str(run.path)  # it may have been moved
    return merged


def moved(
    config: DictConfig, *, batch_size: int | None = None, accelerator: str | None = None, data_root: str | None = None
) -> DictConfig:
    """A run's config with what may differ between the machine that trained and this one; None changes nothing.

    Args:
        config: of the run; changed by the call.
        batch_size: samples that are generated together.
        accelerator: cpu or gpu.
        data_root: the folder of the data set.

    Raises:
        ConfigError: a folder is given for data that have none.
    """
    if data_root is not None and "root" not in config.data.source:
        raise ConfigError([f"data={config.data.name} has no folder: leave data_root (--data-root) out"])
    changes = {
        "trainer.eval_batch_size": batch_size,
        "trainer.accelerator": accelerator,
        "data.root": data_root,
        "data.source.root": data_root,
        "data.requires.root": data_root,
    }
    for key, value in changes.items():
        if value is not None:
            OmegaConf.update(config, key, value)
    return config


def on_other_data(config: DictConfig, data: DictConfig) -> DictConfig:
    """A run's config with another data set, whose images are asked about and prepared as the run's own were.

    Args:
        config: of the run; changed by the call.
        data: a composed section `data`.
    """
    for key in ("prompt", "preprocessing"):
        data[key] = config.data[key]
    config.data = data
    return config


def require_same_run(run: RunFolder, config: Mapping[str, Any]) -> None:
    """Compares what a run was started with and what it is to go on with.

    Raises:
        ConfigError: naming every value that makes it another run.
    """
    stored: Any = OmegaConf.to_container(run.config())
    before, now = _identity(stored), _identity(config)
    problems = [
        f"{key} was {_shown(before, key)} and would be {_shown(now, key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if problems:
        raise ConfigError(
            [
                f"resume={run.path} goes on with the same run; a new one can start from its adapter: "
                f"init_from={run.adapter('best')}",
                *problems,
            ]
        )


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change, by dotted key."""
    sections = {name: config.get(name) for name in IDENTITY}
    sections["trainer"] = {name: config["trainer"].get(name) for name in IDENTITY_OF_TRAINER}
    return {key: value for key, value in _flat(sections) if not key.startswith(CHANGEABLE)}


def _flat(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return [(prefix, node)]
    return [pair for key, value in node.items() for pair in _flat(value, f"{prefix}.{key}" if prefix else str(key))]


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "absent"
