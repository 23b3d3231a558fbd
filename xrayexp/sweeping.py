"""A sweep, from Hydra's multirun to its results: what `hydra/sweeper=xrayexp` does."""

from __future__ import annotations

import gc
import json
import logging
import secrets
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from xrayexp.config import parse_section, quoted
from xrayexp.errors import ConfigError, Stopped, UserError
from xrayexp.messages import explain
from xrayexp.search.best import check_writable
from xrayexp.search.claims import Claims, sampler_factory
from xrayexp.search.config import SearchSection
from xrayexp.search.job import TRIALS, VARIABLE, Outcome, TrialJob
from xrayexp.search.preflight import check_space
from xrayexp.search.results import RUNNING, SWEEP_FILE, SweepResults, write_json
from xrayexp.search.runner import Runner, Work, as_outcome, resume_command
from xrayexp.search.screen import Screen, done
from xrayexp.search.space import from_arguments, parse_space

log = logging.getLogger(__name__)


def sweep(arguments: Sequence[str], *, context: HydraContext, task: TaskFunction, config: DictConfig) -> SweepResults:
    """Runs trials until the sweep has enough, with the other processes that work on the same folder or database.

    Args:
        arguments: the command line's overrides; sweeps among them are searched, too.
        context: Hydra's loader of configs.
        task: what a job runs.
        config: composed of the overrides that are no sweeps.

    Returns:
        What the whole sweep has found.

    Raises:
        UserError: before any trial, for what cannot be searched; and when too many trials in a row fail.
    """
    section = _section(config)
    parsed = OverridesParser.create(config_loader=context.config_loader).parse_overrides(list(arguments))
    check_writable(parsed)
    place = f"conf/search/{_option(config)}.yaml: search.space"
    space = from_arguments(parse_space(section.space, place), parsed)
    fixed = _fixed(parsed, config)
    every_trial = _every_trial(section, parsed)
    jobs = _Jobs(context, task, config)
    check_space(space, place, lambda more: jobs.compose([*fixed, *every_trial, *more]), _check_of(section))
    folder = Path(config.hydra.sweep.dir).absolute()
    about, owner = _begin(folder, section, fixed, arguments)
    claims = Claims(
        folder, owner, section.storage, about.name, section.directions, section.n_trials,
        sampler_factory(section.sampler), instantiate(section.pruner, _convert_="all"), section.seed,
    )  # fmt: skip
    pruner = section.pruner if len(section.objectives) == 1 else None
    job = TrialJob(str(folder), about.name, -1, section.storage, pruner)
    work = Work(
        space=space,
        fixed=fixed,
        every_trial=every_trial,
        constraints={name: instantiate(one) for name, one in section.constraints.items()},
        compose=jobs.compose,
        launch=lambda overrides, job: jobs.launch(overrides, job, list(section.directions)),
        loader=context.config_loader,
        max_failures=section.max_failures,
        resume=resume_command(Path(config.hydra.sweep.dir)),
    )
    results = Runner(claims, about, job, work, Screen()).run()
    _log_to_wandb(results, config)
    return results


def _section(config: DictConfig) -> SearchSection:
    if config.get("search") is None:
        raise ConfigError(["search: hydra/sweeper=xrayexp searches what search=NAME describes; see conf/search"])
    problems: list[str] = []
    section = parse_section(config, "search", SearchSection, problems)
    if problems or section is None:
        raise ConfigError(problems)
    return section


def _option(config: DictConfig) -> str:
    return str(config.hydra.runtime.choices.get("search", "NAME"))


def _fixed(arguments: Sequence[Override], config: DictConfig) -> list[str]:
    """What every trial is told, and the run of the best one: not how it is searched."""
    own = [
        one.input_line or ""
        for one in arguments
        if not one.is_sweep_override() and not one.key_or_group.startswith(("search", "hydra"))
    ]
    option = config.hydra.runtime.choices.get("search")
    return [*([f"search={option}"] if option else []), *own]


def _every_trial(section: SearchSection, arguments: Sequence[Override]) -> list[str]:
    """The command line wins."""
    given = {one.key_or_group for one in arguments}
    return [f"{key}={_text(value)}" for key, value in section.every_trial.items() if key not in given]


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _check_of(section: SearchSection) -> Any:
    return (lambda cfg: None) if section.check is None else instantiate(section.check)


def _begin(
    folder: Path, section: SearchSection, fixed: Sequence[str], arguments: Sequence[str]
) -> tuple[SweepResults, str]:
    """The sweep that the folder holds, begun when it holds none; and its id."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{SWEEP_FILE}.lock"):
        there = json.loads((folder / SWEEP_FILE).read_text(encoding="utf-8")) if (folder / SWEEP_FILE).exists() else {}
        if there and there["fixed"] != list(fixed):
            raise ConfigError(
                [f"{folder} holds a sweep with {' '.join(there['fixed'])}, not {' '.join(fixed)}: its trials would "
                 "not compare; choose another hydra.sweep.dir"]
            )  # fmt: skip
        content = {
            "id": there.get("id", secrets.token_hex(6)),
            "name": section.name or there.get("name", folder.name),
            "objectives": section.directions,
            "n_trials": section.n_trials,
            "sampler": str(section.sampler["_target_"]).rpartition(".")[2],
            "pruner": str(section.pruner["_target_"]).rpartition(".")[2],
            "fixed": list(fixed),
            "arguments": there.get("arguments", list(arguments)),
            "storage": section.storage,
            "optuna": metadata.version("optuna"),
        }
        write_json(folder / SWEEP_FILE, content)
    about = {name: content[name] for name in ("name", "objectives", "n_trials", "sampler", "pruner", "fixed")}
    return SweepResults(folder=folder, trials=(), **about), content["id"]


class _Jobs:
    """Hydra's part of a trial: composing its config, launching its job."""

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        self._context, self._config = context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of a job, as the job will see it but for its folder."""
        cfg = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(Path(self._config.hydra.sweep.dir).absolute() / TRIALS)
        HydraConfig.instance().set_config(cfg)  # interpolations such as ${hydra:runtime.output_dir} look there
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    def launch(self, overrides: Sequence[str], job: TrialJob, metrics: Sequence[str]) -> Outcome:
        """Runs one job in a folder that carries the trial's number."""
        of_hydra = [
            f"hydra.sweep.subdir={TRIALS}/{job.number}",
            f"++hydra.job.env_set.{VARIABLE}={quoted(job.to_json())}",
        ]
        try:
            [returned] = self._launcher.launch([[*overrides, *of_hydra]], initial_job_idx=job.number)
        except Stopped:
            raise
        except SystemExit as error:
            return Outcome("failed", reason=f"the job ended its process (exit status {error.code})")
        except Exception as error:  # the launcher's: whatever a cluster or a worker process can answer
            return _failed(error)
        return _ended(returned, metrics)


def _ended(returned: JobReturn, metrics: Sequence[str]) -> Outcome:
    if returned.status == JobStatus.COMPLETED:
        return as_outcome(returned.return_value, metrics)
    return _failed(returned._return_value)


def _failed(error: BaseException) -> Outcome:
    """Without the traceback, which would keep all that the job held, a GPU's memory above all."""
    reason = explain(error) or f"{type(error).__name__}: {error}"
    error.__traceback__ = None
    gc.collect()
    return Outcome("failed", reason=" ".join(reason.split()))


def _log_to_wandb(results: SweepResults, config: DictConfig) -> None:
    """The sweep as a run of its own beside those of its trials, by the process that ends it."""
    section = OmegaConf.select(config, "logger.wandb")
    if section is None or done(results) < results.n_trials or results.in_state(RUNNING):
        return
    from xrayexp.tracking.wandb_sweep import log_sweep

    # Not save_dir, which is a job's.
    wanted = OmegaConf.masked_copy(section, ["project", "entity", "group", "tags", "name", "mode"])
    plain: Any = OmegaConf.to_container(wanted, resolve=True)
    try:
        log_sweep(results, plain)
    except UserError as error:  # all trials are there, and logged
        log.warning("%s", error)
