"""What train.py, evaluate.py and sweep.py share: compose the config, call one function, print one summary.

Whatever the user can fix becomes one message on stderr and exit code 2. A bug keeps its traceback and exits
with 1. Nothing here imports torch, so that `--help` and `--cfg job` answer at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from xrayexp.errors import UserError
from xrayexp.messages import explain
from xrayexp.quiet import quiet_imports

Job = Callable[[DictConfig], object]

USER_ERROR = 2
INTERRUPTED = 130  # what shells report for a program that Ctrl+C ended


def launch(config_name: str, task: Literal["train", "evaluate"]) -> NoReturn:
    """Runs `xrayexp.pipeline.<task>` on the config that the command line describes, and ends the process.

    Args:
        config_name: a file of conf/, without its ending.
        task: the function of `xrayexp.pipeline` that takes the composed config and returns a summary.
    """
    prepare_environment()
    from xrayexp.config import config_dir, register_resolvers

    register_resolvers()
    if task == "train":
        _recall(config_name)

    def job(cfg: DictConfig) -> object:
        choose_allocator(cfg, cfg.get("run"))
        from xrayexp.search.job import TrialJob

        if (trial := TrialJob.from_environment()) is not None:
            from xrayexp.trial import run_trial

            return run_trial(cfg, trial)
        from xrayexp import pipeline
        from xrayexp.tracking.summary import print_summary

        summary = getattr(pipeline, task)(cfg)
        print_summary(summary)
        return summary

    sys.exit(run(job, config_name, config_dir()))


def _recall(config_name: str) -> None:
    """Puts what `resume=FOLDER` was started with before the rest of the command line."""
    from xrayexp.resume import with_earlier_overrides, with_earlier_sweep

    recalled = with_earlier_sweep if config_name == "sweep" else with_earlier_overrides
    try:
        sys.argv[1:] = recalled(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)


def prepare_environment() -> None:
    """Sets what libraries read while they are imported, torch above all. What the user has set stays."""
    # Idle OpenMP threads spin by default: on few cores they take the time of those that compute.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Importing albumentations asks a package index for its newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    # The tokenizer's own threads do not survive the fork of data loader workers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet_imports()


def choose_allocator(cfg: DictConfig | None, run: str | Path | None) -> None:
    """Carries out `memory.expandable_segments`; to be called before `xrayexp.pipeline` is imported.

    bitsandbytes starts CUDA where it is imported, and from then on torch's allocator is what it is.

    Args:
        cfg: of a training; None for none.
        run: the folder of the run whose config counts instead; None for none.
    """
    from xrayexp.memory.segments import use_expandable_segments

    if run is not None:
        stored = Path(run) / "config.yaml"
        cfg = OmegaConf.load(stored) if stored.is_file() else None  # type: ignore[assignment]
    # What is no boolean is refused later on, with a sentence.
    wanted = cfg is None or OmegaConf.select(cfg, "memory.expandable_segments", default=True) is True
    use_expandable_segments(wanted)


def run(job: Job, config_name: str, conf: Path) -> int:
    """Lets Hydra compose the config from `sys.argv` and call `job` with it, once or, with -m, several times.

    Args:
        job: receives the composed config.
        config_name: a file of `conf`, without its ending; also names Hydra's log file.
        conf: absolute folder of the config files.

    Returns:
        The exit status: 0, 2 for what the user can fix, 130 after Ctrl+C.

    Raises:
        Exception: whatever else the job raised, that is, a bug.
    """
    try:
        error, in_job = _attempt(job, config_name, conf)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    if error is None:
        return 0
    message = _message(error, in_job)
    if message is None:
        raise error
    if any(argument.lstrip("+").casefold() == "debug=true" for argument in sys.argv[1:]):
        traceback.print_exception(error)
    print(f"error: {message}", file=sys.stderr)
    return USER_ERROR


class _JobError(BaseException):
    """Carries a job's error past Hydra, which catches exceptions to print a line of its own for each."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _attempt(job: Job, config_name: str, conf: Path) -> tuple[Exception | None, bool]:
    """The error that ended the run, if any, and whether the job had begun by then."""
    import hydra

    # Makes Hydra raise its errors rather than print them and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    begun = False

    def task(cfg: DictConfig) -> object:
        nonlocal begun
        begun = True
        try:
            return job(cfg)
        except Exception as error:
            if _is_multirun():
                raise  # Hydra's line says which of the jobs it was, and its sweeper decides what follows
            raise _JobError(error) from error

    # Hydra derives the name of the job, and so of its log file, from the module.
    task.__module__ = config_name
    try:
        hydra.main(version_base="1.3", config_path=str(conf), config_name=config_name)(task)()
    except _JobError as carrier:
        return carrier.error, begun
    except Exception as error:
        return error, begun
    return None, begun


def _is_multirun() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def _message(error: Exception, in_job: bool) -> str | None:
    """The message for the user, or None for a bug."""
    message = explain(error)
    if message is None and not in_job and isinstance(error, ValueError | OSError | YAMLError):
        # Until the job begins only Hydra runs, on the command line, the YAML files and the run folder.
        return _of_hydra(error)
    if message is not None and in_job and isinstance(error, OmegaConfBaseException | InstantiationException):
        return f"{message}\n(debug=true shows where)"
    return message


def _of_hydra(error: Exception) -> str:
    """What went wrong with a file; the logging of Python hides it behind a sentence about handlers."""
    system = error.__cause__ if isinstance(error.__cause__, OSError) else error
    advice = ": hydra.run.dir=FOLDER chooses another run folder" if isinstance(system, PermissionError) else ""
    return f"{system}{advice}"
