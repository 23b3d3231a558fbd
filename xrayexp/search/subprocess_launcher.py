"""One job as a process of its own: what `hydra/launcher=subprocess` does.

A crash of the job, whatever it is, ends the job alone, and its memory is free for certain. The command line is that of
a single run: Lightning starts the ranks of a multi-GPU training with the one it finds, which must not be the sweep's.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from xrayexp.config import quoted
from xrayexp.errors import Stopped, UserError
from xrayexp.search.job import VARIABLE, Outcome, TrialJob, read_outcome

log = logging.getLogger(__name__)

OUTPUT = "output.log"  # in the job's folder: all that the job writes to its terminal
SIGNALS = (signal.SIGTERM, signal.SIGINT)
TAIL = 65536  # bytes of the output in which its last line is looked for


def run_job(overrides: Sequence[str], number: int, context: HydraContext, config: DictConfig) -> JobReturn:
    """Runs one job to its end.

    Args:
        overrides: of the job.
        number: of the job, within its launch or sweep.
        context: Hydra's loader of configs.
        config: of the multirun.

    Returns:
        A trial's outcome as it left it behind, None for other jobs; failed with a `UserError` for what ended badly.

    Raises:
        Stopped: a signal came, which the job has heard of and has ended.
    """
    cfg = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(cfg):
        cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
    with _current(cfg):
        folder = Path(cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir).absolute()
        variables = {name: str(value) for name, value in cfg.hydra.job.env_set.items()}
    log.info("job %d: %s", number, " ".join(filter_overrides(overrides)))
    status = _run(_command(cfg, [*config.hydra.overrides.hydra, *overrides], folder), variables, folder)
    return _job_return(cfg, status, folder, variables)


def _command(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> list[str]:
    """This program with one run's overrides; the last one of a key wins."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = [sys.argv[0]] if spec is None else ["-m", spec.name]
    own = [
        "hydra.mode=RUN", f"hydra.run.dir={quoted(str(folder))}", f"hydra.job.num={cfg.hydra.job.num}",
        f"hydra.job.id={cfg.hydra.job.id}",
    ]  # fmt: skip
    further = [
        f"--config-dir={source.path}"
        for source in cfg.hydra.runtime.config_sources
        if source.provider == "command-line" and source.schema == "file"
    ]
    return [sys.executable, *program, *further, f"--config-name={cfg.hydra.job.config_name}", *overrides, *own]


def _run(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> int:
    """The exit status of a command, negative for the signal that ended it."""
    folder.mkdir(parents=True, exist_ok=True)
    # Unbuffered, so that an error's last line is the last line.
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(variables)
    with _Signals() as signals, (folder / OUTPUT).open("ab") as output:
        # In a group of its own: of a Ctrl-C it would hear twice, and the second one means at once, unsaved.
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )  # fmt: skip
        signals.go_to(child)
        status = child.wait()
    if signals.come:
        raise Stopped(signals.come[0])
    return status


class _Signals:
    """While it is entered, signals that ask for an end go to a child process, which saves and ends in its own time.

    Attributes:
        come: the signals, in their order.
    """

    def __init__(self) -> None:
        self.come: list[signal.Signals] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._pass_on) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def go_to(self, child: subprocess.Popen[bytes]) -> None:
        """Names the child."""
        self._child = child
        for number in self._early:  # came while it was started
            child.send_signal(number)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self.come.append(signal.Signals(number))
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)


def _job_return(cfg: DictConfig, status: int, folder: Path, variables: Mapping[str, str]) -> JobReturn:
    """What became of a job: a trial left its outcome, whatever ended the process after that."""
    trial = TrialJob.from_json(variables[VARIABLE]) if VARIABLE in variables else None
    outcome: Outcome | None = None if trial is None else read_outcome(Path(trial.sweep), trial.number)
    returned = JobReturn(
        overrides=list(cfg.hydra.overrides.task), working_dir=str(Path.cwd()), task_name=cfg.hydra.job.name,
        status=JobStatus.COMPLETED,
    )  # fmt: skip
    with open_dict(cfg):
        returned.hydra_cfg = OmegaConf.create({"hydra": cfg.pop("hydra")})
    returned.cfg = cfg
    if outcome is not None:
        returned.return_value = outcome.to_json()
    elif status != 0 or trial is not None:
        returned.status = JobStatus.FAILED
        returned.return_value = UserError(f"{_ending(status)}{_last_line(folder)} (its output: {folder / OUTPUT})")
    return returned


def _ending(status: int) -> str:
    if status >= 0:
        return f"the job ended with exit status {status}"
    return f"the job was ended by {signal.Signals(-status).name}"


def _last_line(folder: Path) -> str:
    with (folder / OUTPUT).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""


@contextmanager
def _current(cfg: DictConfig) -> Iterator[None]:
    """Makes a config the one in which ${hydra:...} looks."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
