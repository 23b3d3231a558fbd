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
    assert "secret" not in shown


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


def test_help_answers_without_torch() -> None:
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('torch' in sys.modules))\n"
        "from xrayexp.cli import main\n"
        "main(['doctor', '--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
