"""Weights in folders, packages, the hub's cache, and on a hub: the real client asks a server of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from xrayexp.checks import Check
from xrayexp.models.checks import hub_token, weights

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens

# What the hub answers for each model: status and headers, as huggingface.co sends them.
HUB: dict[str, tuple[int, dict[str, str]]] = {
    "google/open": (200, {"ETag": '"1"', "X-Repo-Commit": "0" * 40, "Content-Length": "0"}),
    "google/gated": (401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}),
    "google/typo": (404, {"X-Error-Code": "RepoNotFound"}),
    "google/no-config": (404, {"X-Error-Code": "EntryNotFound"}),
    "google/ill": (500, {}),
}


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        status, headers = HUB[self.path.removeprefix("/").partition("/resolve/")[0]]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the requests out of the test's output."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask(models: Sequence[str], home: Path, **settings: str) -> dict[str, Check]:
    """`weights` in a process of its own: the hub's client reads its settings when it is imported."""
    program = (
        "import dataclasses, json, sys\n"
        "from xrayexp.models.checks import weights\n"
        "print(json.dumps({name: dataclasses.asdict(weights(name)) for name in sys.argv[1:]}))\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**kept, "HF_HOME": str(home), **settings}
    command = [sys.executable, "-c", program, *models]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return {name: Check(**fields) for name, fields in json.loads(done.stdout).items()}


def checkpoint(folder: Path, shards: Sequence[str] = (), present: Sequence[str] = ()) -> Path:
    """A folder that looks like a checkpoint with the given shards, of which only some are present."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "processor_config.json"):
        (folder / name).write_text("{}")
    if shards:
        index = {"weight_map": {f"layer.{number}": shard for number, shard in enumerate(shards)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in present:
        (folder / name).write_bytes(b"\0" * 2_000_000)
    return folder


def cached(home: Path, name: str, shards: Sequence[str], present: Sequence[str]) -> None:
    """The same as the hub's client lays it down."""
    model = home / "hub" / f"models--google--{name}"
    checkpoint(model / "snapshots" / "abc", shards, present)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")


def test_a_complete_folder(tmp_path: Path) -> None:
    check = weights(str(checkpoint(tmp_path / "model", present=["model.safetensors"])))
    assert (check.status, check.fix) == ("ok", "")
    assert "2.0 MB" in check.detail


def test_a_folder_without_a_shard(tmp_path: Path) -> None:
    check = weights(str(checkpoint(tmp_path / "model", ["a.safetensors", "b.safetensors"], ["a.safetensors"])))
    assert check.status == "missing"
    assert "lacks b.safetensors" in check.detail


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "lacks config.json, model.safetensors" in weights(str(tmp_path)).detail


@pytest.mark.parametrize(
    "pretrained",
    ["/no/such/folder", "./google/medgemma", "~/medgemma", "pkg://xrayexp/models/x", "pkg://nope/x"],
)
def test_what_can_only_be_a_folder_is_not_sought_on_the_hub(pretrained: str) -> None:
    check = weights(pretrained)
    assert check.status == "missing"
    assert pretrained in check.detail
    assert "hub does not answer" not in check.detail


def test_what_the_hub_answers(hub: str, tmp_path: Path) -> None:
    checks = ask(list(HUB), tmp_path, HF_ENDPOINT=hub)
    assert checks["google/open"].status == "warning"
    assert checks["google/open"].fix == "`hf download google/open`"
    assert {name: check.status for name, check in checks.items() if name != "google/open"} == {
        name: "missing" for name in HUB if name != "google/open"
    }
    assert "no account is logged in" in checks["google/gated"].detail
    assert "https://huggingface.co/google/gated, then `hf auth login`" in checks["google/gated"].fix
    assert "model.pretrained" in checks["google/typo"].fix
    assert "https://huggingface.co/google/no-config" in checks["google/no-config"].fix
    assert "500" in checks["google/ill"].detail


def test_a_token_whose_account_has_not_accepted_the_licence(hub: str, tmp_path: Path) -> None:
    check = ask(["google/gated"], tmp_path, HF_ENDPOINT=hub, HF_TOKEN="hf_secret")["google/gated"]
    assert "this account has not accepted" in check.detail
    assert "hf_secret" not in f"{check}"


def test_the_cache_is_enough_without_a_hub(tmp_path: Path) -> None:
    cached(tmp_path, "whole", [], ["model.safetensors"])
    cached(tmp_path, "half", ["a.safetensors", "b.safetensors"], ["a.safetensors"])
    checks = ask(["google/whole", "google/half", "google/none"], tmp_path, HF_ENDPOINT=NOBODY)
    assert [check.status for check in checks.values()] == ["ok", "missing", "missing"]
    assert "2.0 MB in the hub's cache" in checks["google/whole"].detail
    assert "the hub does not answer" in checks["google/half"].detail


def test_offline_never_asks_the_hub(hub: str, tmp_path: Path) -> None:
    check = ask(["google/open"], tmp_path, HF_ENDPOINT=hub, HF_HUB_OFFLINE="1")["google/open"]
    assert check.status == "missing"
    assert "unset HF_HUB_OFFLINE" in check.fix


def test_a_token_is_found_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert hub_token() == Check("Hugging Face token", "ok", "in HF_TOKEN")


def test_no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert hub_token().status == "missing"
    assert "hf auth login" in hub_token().fix


def test_a_folder_without_its_processor(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", present=["model.safetensors"])
    (model / "tokenizer.json").unlink()
    (model / "processor_config.json").rename(model / "preprocessor_config.json")  # its older name
    check = weights(str(model))
    assert check.status == "missing"
    assert "lacks tokenizer.json" in check.detail
    assert "processor_config" not in check.detail


def test_a_broken_index(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model")
    (model / "model.safetensors.index.json").write_text("{")
    assert "model.safetensors.index.json" in weights(str(model)).detail
