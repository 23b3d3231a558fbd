"""The README's commands, run as they are written (training made short by what is appended)."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xrayexp.tracking.summary import TrainingSummary

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines() if line.strip()]


def commands(*start: str) -> list[list[str]]:
    """The README's commands that begin so."""
    found = [command for command in COMMANDS if command[: len(start)] == list(start)]
    assert found, f"the README no longer shows {' '.join(start)}"
    return found


def run(command: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command of the README with this interpreter, in `cwd`."""
    programs = {"python": [sys.executable], "xrayexp": [str(Path(sys.executable).with_name("xrayexp"))]}
    program = [*programs[command[0]], *(str(ROOT / a) if a.endswith(".py") else a for a in command[1:])]
    return subprocess.run(program, cwd=cwd, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True)


def trained(command: list[str], small: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return run([*command, *small, f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"], folder.parent)


def needs_gpu(command: list[str]) -> bool:
    return any(word.startswith("model=medgemma") for word in command)


RESUMED = "resume=outputs/..."
SINGLE = [command for command in commands("python", "train.py") if not {"-m", RESUMED} & set(command)]


@pytest.mark.parametrize("command", [c for c in SINGLE if not needs_gpu(c)], ids=" ".join)
def test_training_commands_train(command: list[str], small: Sequence[str], tmp_path: Path) -> None:
    done = trained(command, small, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "checkpoints" / "best" / "adapter_config.json").exists()


@pytest.mark.parametrize("command", [c for c in commands("python", "train.py") if RESUMED in c], ids=" ".join)
def test_the_command_that_resumes_goes_on(command: list[str], small: Sequence[str], tmp_path: Path) -> None:
    assert trained(["python", "train.py"], small, tmp_path / "run").returncode == 0
    given = [f"resume={tmp_path / 'run'}" if word == RESUMED else word for word in command]
    done = run([*given, "trainer.max_steps=3"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 steps" in done.stdout


@pytest.mark.parametrize("command", [c for c in SINGLE if needs_gpu(c)], ids=" ".join)
def test_medgemma_says_what_is_missing(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PADCHEST_DIR", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    done = trained(command, (), tmp_path / "run")
    assert done.returncode == 2
    assert "PadChest" in done.stderr
    assert "google/medgemma" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", commands("python", "train.py", "-m"), ids=" ".join)
def test_the_grid_runs_every_job(command: list[str], small: Sequence[str], tmp_path: Path) -> None:
    done = trained(command, small, tmp_path / "grid")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("grid/*/summary.json"))) == 4


@pytest.mark.parametrize("command", commands("python", "evaluate.py"), ids=" ".join)
def test_evaluation_commands_evaluate(command: list[str], trained_run: TrainingSummary, tmp_path: Path) -> None:
    given = [f"run={trained_run.folder}" if word == "run=outputs/..." else word for word in command]
    done = run(given, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "exact match" in done.stdout
    assert not list(tmp_path.iterdir()), "evaluation writes into the run's folder alone"


ANSWERS = {"doctor": "PadChest folder", "runs": "no run in outputs", "data": "training can begin", "plan": "of 12 GiB"}


@pytest.mark.parametrize("command", commands("xrayexp", "export"), ids=" ".join)
def test_the_command_that_exports_writes_a_model(
    command: list[str], trained_run: TrainingSummary, tmp_path: Path
) -> None:
    given = [str(trained_run.folder) if word == "outputs/..." else word for word in command]
    done = run([*given, "--to", str(tmp_path / "model"), "--compare", "0"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("command", [*commands("xrayexp", "compare"), *commands("xrayexp", "gallery")], ids=" ".join)
def test_commands_on_evaluated_runs_write_their_page(
    command: list[str], trained_run: TrainingSummary, tmp_path: Path
) -> None:
    for word in command[2:]:
        shutil.copytree(trained_run.folder / "evaluation", tmp_path / word / "evaluation")
        shutil.copy(trained_run.folder / "config.yaml", tmp_path / word)
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.splitlines()[-1].removeprefix("page: ")).stat().st_size > 10_000


OTHER_COMMANDS = [c for c in commands("xrayexp") if c[1] not in ("export", "compare", "gallery")]


@pytest.mark.parametrize("command", OTHER_COMMANDS, ids=" ".join)
def test_console_commands_answer(command: list[str], tmp_path: Path) -> None:
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert ANSWERS[command[1]] in done.stdout


@pytest.mark.parametrize("command", commands("make"), ids=" ".join)
def test_make_knows_the_targets(command: list[str]) -> None:
    done = subprocess.run([command[0], "--dry-run", *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_groups_of_the_table_are_those_of_conf() -> None:
    """Every option of every group is in the README's table, and nothing else is."""
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    shown = {group: set(re.findall(r"\w+", options)) for group, options in rows}
    groups = [folder for folder in (ROOT / "conf").iterdir() if folder.is_dir() and any(folder.glob("*.yaml"))]
    there = {folder.name: {file.stem for file in folder.glob("*.yaml")} for folder in groups}
    assert shown == {group: options for group, options in there.items() if group != "paths"}
