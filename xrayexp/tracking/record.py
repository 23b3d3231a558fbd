"""The record of a run: how it was started, where it stands, how it ended. One process writes to it at a time."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xrayexp.errors import DataError, Stopped, UserError
from xrayexp.tracking.provenance import command_line, config_hash, git_state, versions
from xrayexp.tracking.run_folder import RunFolder, write_json, write_text

log = logging.getLogger(__name__)

RUNNING, FINISHED, STOPPED, FAILED, KILLED = "running", "finished", "stopped", "failed", "killed"


@contextmanager
def recorded(
    run: RunFolder, config: Mapping[str, Any], overrides: Sequence[str] | None, resumed_from: Path | None = None
) -> Iterator[None]:
    """Keeps run.json up to date while the body runs, and other processes out of the folder.

    Args:
        run: the folder; made when it does not exist.
        config: the resolved config.
        overrides: of the command line; None when there was none.
        resumed_from: the checkpoint from which an earlier run goes on.

    Raises:
        UserError: another process is writing to the folder, or nobody may.
    """
    with _locked(run):
        run.write_config(dict(config))
        write_text(run.readme_file, _readme(config))
        record = _begun(run, config, overrides, resumed_from)
        write_json(run.record_file, record | {"state": RUNNING})
        state, reason = FAILED, ""
        try:
            yield
            state = FINISHED
        except (Stopped, KeyboardInterrupt) as stop:
            state, reason = STOPPED, stop.signal.name if isinstance(stop, Stopped) else "SIGINT"
            log.warning("stopped by %s; %s", reason, _way_on(run))
            raise
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise
        finally:
            write_json(run.record_file, record | {"state": state, "reason": reason, "ended": _now()})


def _way_on(run: RunFolder) -> str:
    saved = sorted(run.checkpoints.glob("step-*.ckpt"))
    if not saved:
        return "no checkpoint had been written yet"
    command = shlex.join(["python", "train.py", f"resume={run.path}"])
    return f"the newest checkpoint is {saved[-1].name}. Go on with: {command}"


@contextmanager
def _locked(run: RunFolder) -> Iterator[None]:
    lock = FileLock(run.lock_file, blocking=False)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(f"another process is writing to {run.path}: wait for its end, or stop it") from None
    except OSError as error:
        raise UserError(f"cannot write to the run folder {run.path} ({error.strerror}): choose another") from error
    try:
        yield
    finally:
        lock.release()


def _begun(
    run: RunFolder, config: Mapping[str, Any], overrides: Sequence[str] | None, resumed_from: Path | None
) -> dict[str, Any]:
    earlier = read_record(run) if resumed_from is not None and run.record_file.exists() else {}
    now = {"started": _now(), "command": command_line(), "versions": versions(), "git": git_state()}
    starts = [*earlier.get("starts", []), now | ({"from": resumed_from.name} if resumed_from else {})]
    return {
        "overrides": None if overrides is None else list(overrides),
        "config_hash": config_hash(config),
        "starts": starts,
    }


def read_record(run: RunFolder) -> dict[str, Any]:
    """What run.json says.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(run.record_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{run.path} is not the folder of a run: {run.record_file.name} is missing") from None
    except ValueError as error:
        raise DataError(f"{run.record_file} cannot be read: {error}") from None
    return content


def current_state(run: RunFolder) -> str:
    """The state in run.json; a run that is said to be running, but whose process is gone, was killed."""
    state = str(read_record(run)["state"])
    return KILLED if state == RUNNING and not _is_locked(run) else state


def _is_locked(run: RunFolder) -> bool:
    try:
        with FileLock(run.lock_file, blocking=False):
            return False
    except Timeout:
        return True


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _readme(config: Mapping[str, Any]) -> str:
    model, data, adapter = config["model"], config["data"], config["adapter"]
    return f"""\
A run of xrayexp: {model["name"]} ({model["pretrained"]})
fine-tuned on {data["name"]} with {adapter["name"]}, seed {config["seed"]}.

config.yaml          every value that the run was made with
run.json             the command, versions and commit of every start, and how the last one ended
logs/metrics.csv     training and validation, by optimiser step
samples/             what the model said of a few validation images, at every validation
checkpoints/best     the adapter with the best {config["trainer"]["monitor"]}, a plain PEFT folder with the processor
checkpoints/last     the adapter at the end
checkpoints/*.ckpt   what resuming needs; may be removed when the run is finished
evaluation/          predictions, metrics and tables of the splits that were evaluated
summary.json         the run in a few numbers, written at the end

RUN stands for this folder.

Evaluate   python evaluate.py run=RUN
Resume     python train.py resume=RUN
Start from its adapter   python train.py init_from=RUN/checkpoints/best
Load without xrayexp:

    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor
    base = PeftConfig.from_pretrained("RUN/checkpoints/best").base_model_name_or_path
    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), "RUN/checkpoints/best")
    processor = AutoProcessor.from_pretrained("RUN/checkpoints/best")
"""
