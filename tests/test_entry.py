"""The promise of train.py and evaluate.py: one message for what the user can fix, a traceback for a bug."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from xrayexp import entry
from xrayexp.checks import Check, require
from xrayexp.errors import ConfigError, UserError

ROOT = Path(__file__).parents[1]

FILES = {
    "train.yaml": """
        defaults:
          - _self_
          - adapter: lora
          - trainer: cpu
          - override hydra/job_logging: none
          - override hydra/hydra_logging: none
        debug: false
        root: ???
        hydra: {run: {dir: out}, sweep: {dir: sweep}}
    """,
    "adapter/lora.yaml": "{name: lora, r: 8, alpha: 16, lr: '${trainer.lr}'}",
    "adapter/dora.yaml": "{name: dora, r: 16, alpha: 32, lr: 1}",
    "adapter/delora.yaml": "{name: delora, r: 16, alpha: 32, lr: 1}",
    "trainer/cpu.yaml": "{max_steps: 100, lr: 1e-3}",
    "trainer/broken.yaml": "{max_steps: [1, 2",
}

Main = Callable[..., int]


def nothing(cfg: DictConfig) -> None:
    """A job without work."""


def fails(error: BaseException) -> entry.Job:
    """A job that raises."""

    def job(cfg: DictConfig) -> None:
        raise error

    return job


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Main]:
    """`entry.run` as `python train.py ARGUMENTS` in an empty folder, on the config above."""
    conf = tmp_path / "conf"
    for name, text in FILES.items():
        (conf / name).parent.mkdir(parents=True, exist_ok=True)
        (conf / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # `run` changes it; this puts it back

    def run(job: entry.Job, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        return entry.run(job, "train", conf)

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    root.handlers[:], root.level = handlers, level


def test_the_job_gets_the_config_of_the_command_line(main: Main, tmp_path: Path) -> None:
    configs: list[DictConfig] = []
    assert main(configs.append, "adapter=dora", "trainer.max_steps=5") == 0
    (cfg,) = configs
    assert (cfg.adapter.name, cfg.adapter.r, cfg.trainer.max_steps) == ("dora", 16, 5)
    assert OmegaConf.load(tmp_path / "out/.hydra/hydra.yaml").hydra.job.name == "train"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["adapter=lroa"], ["Did you mean 'adapter=lora'", "Available options in 'adapter'", "dora"]),
        (["adapter=xyz"], ["Could not find 'adapter/xyz'", "Available options", "dora"]),
        (["-m", "adapter=lora,dorra"], ["Did you mean 'adapter=dora'", "Available options"]),
        (
            ["adaptr=lora"],
            ["no key 'adaptr'", "Did you mean 'adapter'", "Keys of the config: adapter, debug"],
        ),
        (
            ["adapter.rank=4"],
            ["no key 'adapter.rank'", "Did you mean 'adapter.r'", "Keys of adapter: alpha, lr"],
        ),
        (["max_steps=4"], ["no key 'max_steps'", "Did you mean 'trainer.max_steps'?"]),
        (["-m", "adapter.rank=4,8"], ["no key 'adapter.rank'", "Did you mean 'adapter.r'"]),
        (["--cfg", "job", "adapter.rank=4"], ["no key 'adapter.rank'"]),
        (["--help", "adapter.rank=4"], ["no key 'adapter.rank'"]),
        (["adapter.something_else=4"], ["no key 'adapter.something_else'.\nKeys of adapter:"]),
        (["adapter.r.x=4"], ["no key 'adapter.r.x'"]),
        (["~adapter.rank"], ["'adapter.rank' does not exist"]),
        (["lora"], ["cannot read 'lora': missing EQUAL", "key=value"]),
        (["adapter.r=[1"], ["cannot read 'adapter.r=[1'", "key=value"]),
        (["adapter.r=1,2"], ["Ambiguous value for argument 'adapter.r=1,2'", "--multirun"]),
        (["adapter=3"], ["must be a string or a list"]),
        (["trainer=broken"], ["trainer/broken.yaml"]),
        (["hydra.mode=FAST"], ["hydra.mode=FAST", "Invalid value 'FAST'"]),
        (["--resolve"], ["--resolve flag can only be used"]),
        (["--config-name", "tain"], ["Cannot find primary config 'tain'"]),
        (["hydra.run.dir=conf/train.yaml"], ["conf/train.yaml"]),
    ],
)
def test_what_hydra_refuses_is_one_message(
    main: Main, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert main(fails(AssertionError("the job must not begin")), *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert [word for word in words if word not in shown] == []
    assert "Traceback" not in shown
    assert "HYDRA_FULL_ERROR" not in shown
    assert "provider=" not in shown, "Hydra's search path helps nobody here"


@pytest.mark.parametrize(
    "error",
    [UserError("the folder is empty"), ConfigError(["adapter.r is negative", "trainer.lr is negative"])],
)
def test_a_user_error_is_its_message_and_nothing_else(
    main: Main, capsys: pytest.CaptureFixture[str], error: UserError
) -> None:
    assert main(fails(error)) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_what_is_missing_is_named_with_its_fix(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("PadChest", "missing", "no folder", "set PADCHEST_DIR"), Check("GPU", "warning", "small")]
    assert main(lambda cfg: require(checks)) == 2
    shown = capsys.readouterr().err
    assert "PadChest: no folder" in shown
    assert "fix: set PADCHEST_DIR" in shown
    assert "GPU" not in shown


@pytest.mark.parametrize("error", [KeyError("r"), ValueError("bad"), OSError("disk"), AttributeError("x")])
@pytest.mark.parametrize("arguments", [[], ["-m", "adapter=lora,dora"]])
def test_a_bug_is_not_swallowed(main: Main, error: Exception, arguments: list[str]) -> None:
    with pytest.raises(type(error)) as raised:
        main(fails(error), *arguments)
    assert raised.value is error
    assert raised.traceback[-1].name == "job"


@pytest.mark.parametrize(
    "job, arguments",
    [(fails(UserError("no such folder")), ["debug=true"]), (nothing, ["++debug=True", "adapter=lroa"])],
)
def test_debug_adds_the_traceback(
    main: Main, capsys: pytest.CaptureFixture[str], job: entry.Job, arguments: list[str]
) -> None:
    assert main(job, *arguments) == 2
    traceback, _, message = capsys.readouterr().err.partition("error: ")
    assert traceback.startswith("Traceback")
    assert message


def test_one_job_of_several_fails(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    ranks: list[int] = []

    def job(cfg: DictConfig) -> None:
        ranks.append(cfg.adapter.r)
        if cfg.adapter.r < 0:
            raise ConfigError(["adapter.r is negative"])

    assert main(job, "-m", "adapter.r=4,-1,8") == 2
    assert ranks == [4, -1, 8]
    shown = capsys.readouterr().err
    assert "adapter.r=-1" in shown, "says which job it was"
    assert "error: " in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    "read, words",
    [
        (lambda cfg: cfg.adapter.rank, ["no key 'adapter.rank'", "Did you mean 'adapter.r'"]),
        (lambda cfg: cfg.root, ["root", "Missing mandatory value"]),
        (lambda cfg: cfg.adapter.lr, ["adapter.lr: Interpolation key 'trainer.lr' not found"]),
    ],
)
def test_a_config_that_cannot_be_read_says_where(
    main: Main, capsys: pytest.CaptureFixture[str], read: entry.Job, words: list[str]
) -> None:
    assert main(read, "~trainer.lr") == 2
    shown = capsys.readouterr().err
    assert [word for word in words if word not in shown] == []
    assert "debug=true shows where" in shown


def target(path: str, **values: object) -> entry.Job:
    """A job that builds one object from a config, as the pipeline builds its parts."""
    return lambda cfg: instantiate({"_target_": path, **values})


def test_a_target_that_the_config_describes_wrongly(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(target("xrayexp.checks.Check", name="x", status="ok", detail="", colour="red")) == 2
    assert "unexpected keyword argument 'colour'" in capsys.readouterr().err
    assert main(target("xrayexp.checks.Chek")) == 2
    assert "Chek" in capsys.readouterr().err


def test_a_target_that_refuses_its_values(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    missing = Check("PadChest", "missing", "no folder")
    assert main(lambda cfg: instantiate({"_target_": "xrayexp.checks.require"}, [missing])) == 2
    assert "PadChest: no folder" in capsys.readouterr().err


def test_a_target_with_a_bug_inside_keeps_its_traceback(main: Main) -> None:
    with pytest.raises(Exception, match="not iterable"):
        main(target("xrayexp.checks.require", checks=3))


@pytest.mark.parametrize("arguments", [[], ["-m", "adapter=lora,dora"]])
def test_ctrl_c(main: Main, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(fails(KeyboardInterrupt()), *arguments) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_log_that_may_not_be_written_is_named(
    main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file that Hydra opens in the folder of a run that goes on."""

    def refuse(handler: logging.FileHandler) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", handler.baseFilename)

    monkeypatch.setattr(logging.FileHandler, "_open", refuse)
    assert main(nothing, "root=x", "hydra/job_logging=default") == 2
    shown = capsys.readouterr().err
    assert re.search(r"error: .*Permission denied: '.*train\.log': hydra\.run\.dir=FOLDER chooses another", shown)


def test_an_exit_of_the_job_stays(main: Main) -> None:
    with pytest.raises(SystemExit) as stop:
        main(fails(SystemExit(75)))
    assert stop.value.code == 75


def test_the_environment_is_prepared_but_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    entry.prepare_environment()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_what_only_shows_the_config_never_imports_torch(script: str, arguments: list[str]) -> None:
    program = (
        "import atexit, runpy, sys\n"
        "slow = {'torch', 'transformers', 'lightning', 'pandas', 'PIL'}\n"
        "atexit.register(lambda: print('imported:', sorted(slow & sys.modules.keys())))\n"
        f"sys.argv = {[script, *arguments]}\n"
        f"runpy.run_path({script!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("imported: []\n")
    assert len(done.stdout.splitlines()) > 5


@pytest.mark.skipif(sys.platform != "linux", reason="torch has expandable segments on Linux alone")
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "xrayexp losses"])
def test_the_allocator_is_chosen_before_cuda_could_start(script: str, wanted: bool, tmp_path: Path) -> None:
    """That is, before the pipeline is imported, and bitsandbytes with it."""
    (tmp_path / "config.yaml").write_text(f"memory: {{expandable_segments: {str(wanted).lower()}}}")
    run, arguments = f"runpy.run_path({script!r}, run_name='__main__')", [f"run={tmp_path}"]
    if script == "train.py":
        arguments = [f"memory.expandable_segments={str(wanted).lower()}", f"hydra.run.dir={tmp_path}"]
    elif script == "xrayexp losses":
        run, arguments = "__import__('xrayexp.cli').cli.main()", ["losses", str(tmp_path)]
    program = (
        "import os, runpy, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'bitsandbytes', 'xrayexp.pipeline'):\n"
        "            print(name, os.environ.get('PYTORCH_ALLOC_CONF'), flush=True)\n"
        "            os._exit(0)\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"sys.argv = {[script, *arguments]}\n"
        f"{run}\n"
    )
    clean = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.stdout.split() == ["xrayexp.pipeline", "expandable_segments:True" if wanted else "None"], done.stderr


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_a_typo_on_the_real_command_line(script: str) -> None:
    done = subprocess.run([sys.executable, script, "metrics=strctured"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Did you mean 'metrics=structured'?" in done.stderr
