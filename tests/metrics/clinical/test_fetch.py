"""`xrayexp data fetch-metrics`: the real client of the hub, beside a hub on this machine that serves the stand-ins."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.metrics.clinical.standins import BERT, RADGRAPH_ENCODER
from xrayexp.cli import main
from xrayexp.metrics.clinical.files import (
    SCORERS,
    chexbert_checkpoint,
    chexbert_files,
    radgraph_files,
    radgraph_folder,
)

COMMIT = "1" * 40
FETCH = ["data", "fetch-metrics"]


class Hub(ThreadingHTTPServer):
    """Answers as huggingface.co does, as far as downloads go.

    Attributes:
        files: (repository, name) to content.
        damaged: names of files that are sent otherwise than they are listed.
        asked: paths of all requests.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self.damaged: set[str] = set()
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Answer)


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if path.startswith("/api/models/"):
            repository = path.removeprefix("/api/models/").partition("/revision")[0]
            content, tag = json.dumps(self._listing(repository)).encode(), "listing"
        else:
            repository, _, rest = path[1:].partition("/resolve/")
            name = rest.partition("/")[2]
            content = self.server.files[repository, name]
            tag = hashlib.sha256(content).hexdigest()
            if name in self.server.damaged:
                content = content[:-1] + b"?"
        self.send_response(200)
        self.send_header("ETag", f'"{tag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _listing(self, repository: str) -> dict[str, object]:
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "lfs": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 1},
            }
            for (owner, name), content in self.server.files.items()
            if owner == repository
        ]
        return {"id": repository, "sha": COMMIT, "siblings": siblings}


@pytest.fixture
def hub(standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the stand-ins, and a machine that has none of them."""
    server = Hub()
    server.files[SCORERS, "chexbert.pth"] = (standins / "chexbert" / "chexbert.pth").read_bytes()
    for model in ("radgraph", "radgraph-xl"):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            [folder] = (standins / "radgraph").glob(f"*/{model}")
            for path in sorted(folder.iterdir()):
                tar.add(path, path.name)
        server.files[SCORERS, f"{model}.tar.gz"] = archive.getvalue()
    for encoder in (BERT, RADGRAPH_ENCODER):
        [snapshot] = (standins / "hub" / f"models--{encoder.replace('/', '--')}" / "snapshots").iterdir()
        server.files |= {(encoder, path.name): path.read_bytes() for path in snapshot.iterdir()}
        server.files[encoder, "model.safetensors"] = b"weights that nobody asks for"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_missing_is_fetched_once(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert chexbert_files().status == radgraph_files("radgraph-xl").status == "missing"
    assert main(FETCH) == 0
    shown = capsys.readouterr().out
    assert "licence" in shown
    assert f"CheXbert weights: {chexbert_checkpoint()}" in shown.replace("\n", "")
    assert chexbert_files().status == radgraph_files("radgraph-xl").status == "ok"
    assert radgraph_files("radgraph").status == "missing"
    assert not any("model.safetensors" in path for path in hub.asked)
    hub.asked.clear()
    assert main(FETCH) == 0
    assert hub.asked == [], "what is there is not asked for"
    assert main([*FETCH, "--radgraph", "radgraph"]) == 0
    assert radgraph_files("radgraph").status == "ok"
    assert not any("chexbert" in path or "xl" in path for path in hub.asked)


def test_a_damaged_file_is_not_kept(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.damaged = {"chexbert.pth"}
    assert main(FETCH) == 2
    assert "chexbert.pth arrived damaged and was deleted: try `xrayexp data fetch-metrics`" in capsys.readouterr().err
    assert not chexbert_checkpoint().exists()
    hub.damaged = set()
    assert main(FETCH) == 0


def test_an_unpacking_that_was_cut_off_is_done_again(hub: Hub) -> None:
    folder = radgraph_folder("radgraph-xl")
    folder.mkdir(parents=True)  # as radgraph leaves it
    folder.with_name(f".{folder.name}.unpacking").mkdir()
    assert main(FETCH) == 0
    assert radgraph_files("radgraph-xl").status == "ok"


def test_without_network_it_says_so_at_once(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.shutdown()
    hub.server_close()
    assert main(FETCH) == 2
    assert (
        "the hub does not answer: connect to the internet, then `xrayexp data fetch-metrics`" in capsys.readouterr().err
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(FETCH) == 2
    assert "HF_HUB_OFFLINE forbids asking the hub: unset it" in capsys.readouterr().err
