from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import wandb

from xrayexp.tracking.checks import wandb_login


@pytest.fixture(autouse=True)
def logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))


def test_logged_out() -> None:
    check = wandb_login()
    assert check.status == "missing"
    assert "wandb login" in check.fix


def test_a_key_in_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    check = wandb_login()
    assert check.status == "ok"
    assert "secret" not in f"{check}"


@pytest.mark.parametrize("server", ["api.wandb.ai", urlsplit(wandb.Settings().base_url).netloc])
@pytest.mark.parametrize("file", [".netrc", "_netrc"])
def test_a_stored_key(tmp_path: Path, file: str, server: str) -> None:
    """For the server of the installed wandb, and under its name of old."""
    (tmp_path / file).write_text(f"machine {server} login user password secret\n")
    (tmp_path / file).chmod(0o600)
    check = wandb_login()
    assert check.status == "ok"
    assert "secret" not in f"{check}"


def test_a_stored_key_of_another_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text("machine api.wandb.ai login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "keys"))
    assert wandb_login().status == "ok"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.hospital.example")
    check = wandb_login()
    assert check.status == "missing"
    assert "wandb.hospital.example" in check.detail


def test_a_broken_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine\nnonsense here\n")
    assert wandb_login().status == "missing"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_no_login_is_needed_offline(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_login().status == "ok"
