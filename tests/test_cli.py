from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from xrayexp import __version__
from xrayexp.checks import Check
from xrayexp.cli import main
from xrayexp.data.label_file import LABEL_FILES
from xrayexp.doctor import Finding, examine, table

ROOT = Path(__file__).parents[1]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Configs of one model that is here and one that is not, and of data that are not."""
    here = tmp_path / "model"
    here.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json"):
        (here / name).write_text("{}")
    files = {
        "train.yaml": "defaults: [_self_, data: phantom, model: small]",
        "data/phantom.yaml": "name: phantom",
        "data/padchest.yaml": f"root: {tmp_path}/PadChest",
        "model/small.yaml": f"pretrained: {here}",
        "model/large.yaml": f"pretrained: {tmp_path}/large",
    }
    for file, text in files.items():
        path = tmp_path / "conf" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "conf"


def test_doctor_looks_at_the_machine_and_at_what_is_configured(conf: Path) -> None:
    findings = list(examine(conf))
    names = {finding.check.name for finding in findings}
    assert {
        "accelerator",
        "GPU memory",
        "GPU allocator",
        "bfloat16",
        "4-bit kernels",
        "Hugging Face token",
        "W&B login",
    } < names
    by_need = {finding.needed_by: finding.check for finding in findings if finding.needed_by}
    assert by_need["model=large"].detail == f"{conf.parent}/large: no such folder"
    assert by_need["data=padchest"].status == "missing"
    assert "PadChest" in by_need["data=padchest"].detail
    default = next(finding.check for finding in findings if finding.check.name == "model weights")
    assert default.status == "ok"
    assert "model=small" not in by_need, "the default is needed by every run"


def test_the_table_shows_every_word_even_where_it_is_narrow() -> None:
    url = "https://example.org/" + "a-long-name/" * 6
    check = Check("PadChest folder", "missing", "no folder given", f"ask at {url}")
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(table([Finding(check, "data=padchest"), Finding(Check("4-bit kernels", "ok", "cpu"))]))
    shown = console.export_text()
    for word in (
        "PadChest folder",
        "for data=padchest",
        "missing",
        "no folder given",
        "fix: ask at",
        "4-bit",
        "ok",
    ):
        assert word in shown
    assert url in re.sub(r"\s", "", shown), "an address is wrapped, never cut"


def test_doctor_on_this_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("WANDB_API_KEY", "wandb_secret")
    assert main(["doctor"]) == 0, "what every run needs is here"
    shown = capsys.readouterr().out
    assert "accelerator" in shown
    assert "for model=medgemma15" in shown
    assert "CheXbert weights" in shown
    assert "secret" not in shown


def data_check(folder: Path, *more: str) -> int:
    """Runs the command on a folder, with its cache and its report beside it."""
    splits = "data.split.shares={train: 0.6, validation: 0.2, test: 0.2}"
    places = (f"data.root={folder}", f"data.cache_dir={folder.parent}/cache", "--out", f"{folder.parent}/out")
    return main(["data", "check", splits, *places, "--workers", "1", *more])


def test_data_check(padchest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_check(padchest) == 0
    shown = capsys.readouterr().out
    assert "18 years or older" in shown
    assert "training can begin" in shown
    assert f"page: {tmp_path}/out/report.html" in shown.replace("\n", "")
    assert "Training can begin." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for path in sorted(padchest.glob("*/*.png"))[:40]:
        path.write_bytes(b"no image")
    assert data_check(padchest) == 1
    assert "training would stop before it begins" in capsys.readouterr().out
    listed = (tmp_path / "out" / "problems.csv").read_text(encoding="utf-8")
    assert listed.startswith("image_id,file,kind,split,reason\n")
    assert ",unreadable,train," in listed
    assert data_check(padchest, "data.max_broken_fraction=0.9") == 0


def test_data_check_shows_what_a_training_would_drop(padchest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_check(padchest, "data.source.suspects=drop") == 0
    assert "suspect: " in capsys.readouterr().out


def test_data_check_of_phantoms_and_of_images_alone(
    padchest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["data", "check", "data=phantom", "data.source.patients=300", "--out", str(tmp_path / "out")]) == 0
    assert "draws its images" in capsys.readouterr().out
    (padchest / LABEL_FILES[0]).unlink()
    assert data_check(padchest) == 0
    assert "holds no label file" in capsys.readouterr().out
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PADCHEST_DIR", "~/PadChest")
    assert main(["data", "check", f"data.cache_dir={tmp_path}/cache", "--out", str(tmp_path / "out")]) == 0
    assert "holds no label file" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["data.root=/nowhere"], "no such folder"),
        (["data.rot=1"], "Did you mean 'data.root'"),
        (["data=padchset"], "padchest"),
        (["data.root"], "key=value"),
        (["data.num_workers=-1"], "data.num_workers must be at least 0"),
        (["data.source.suspects=perhaps"], "data.source.suspects: unknown 'perhaps', expected keep, drop"),
    ],
)
def test_data_check_says_what_is_wrong(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PADCHEST_DIR", raising=False)
    assert main(["data", "check", *arguments]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown


def test_an_unknown_option_is_no_override(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["data", "check", "--worker", "1", "--fast"], ["runs", "outputs", "more"]):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


def test_data_check_needs_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", "--workers", "0"])
    assert stop.value.code == 2
    assert "must be a whole number of at least 1, not 0" in capsys.readouterr().err


def test_ctrl_c_is_no_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xrayexp.data_check.check_data", interrupt)
    assert main(["data", "check"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("xrayexp.data_check.check_data", fail)
    with pytest.raises(ZeroDivisionError):
        main(["data", "check"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"xrayexp {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["doktor"]])
def test_a_wrong_command_shows_the_right_ones(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["doctor"], ["data", "check"], ["data", "fetch-metrics"]], ids=" ".join)
def test_help_answers_without_torch(command: list[str]) -> None:
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('torch' in sys.modules))\n"
        "from xrayexp.cli import main\n"
        f"main({[*command, '--help']})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
