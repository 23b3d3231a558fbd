"""Uploads: the real client talks to a server of our own, which answers as huggingface.co does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens

PROGRAM = """
import sys
from pathlib import Path
from xrayexp.errors import UserError
from xrayexp.models.hub import push, require_free_name
try:
    require_free_name(sys.argv[1])
    print(push(Path(sys.argv[2]), sys.argv[1]) if len(sys.argv) > 2 else "free")
except UserError as error:
    print("error:", error)
"""


class Hub(BaseHTTPRequestHandler):
    """An account `me` of the group `clinic`; the token `hf_wrong` is unknown, and `me/full` takes no files."""

    made: dict[str, dict[str, object]]
    files: dict[str, bytes]

    def do_GET(self) -> None:
        if self.path.startswith("/api/whoami-v2"):
            known = self.headers.get("Authorization") == "Bearer hf_right"
            account = {"name": "me", "type": "user", "orgs": [{"name": "clinic"}]}
            self.answer(200 if known else 401, account if known else {"error": "Invalid credentials"})
        elif self.path == "/api/models/me/taken":
            self.answer(200, {"id": "me/taken", "modelId": "me/taken", "siblings": []})
        else:
            self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            request = json.loads(body)
            self.made[request["name"]] = request
            self.answer(200, {"url": f"https://huggingface.co/{request.get('organization', 'me')}/{request['name']}"})
        elif "/full/" in self.path:
            self.answer(403, {"error": "Private repository storage limit reached"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            self.files.update(
                (x["value"]["path"], b64decode(x["value"]["content"])) for x in lines if x["key"] == "file"
            )
            self.answer(200, {"commitUrl": "https://huggingface.co/me/new/commit/1", "commitOid": "1", "success": True})
        else:
            self.answer(200, {})

    def answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the requests out of the test's output."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.made, Hub.files = {}, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask(*arguments: str, **settings: str) -> str:
    """In a process of its own: the hub's client reads its settings when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**kept, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **settings}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_folder_goes_into_a_private_repository(hub: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / "config.json").write_text("{}")
    answer = ask("me/new", str(tmp_path), HF_ENDPOINT=hub, HF_TOKEN="hf_right", HF_HOME=str(tmp_path / ".home"))
    assert answer.endswith("/me/new")
    assert Hub.made["new"].get("private") is True or Hub.made["new"].get("visibility") == "private"
    assert Hub.files["README.md"] == b"a card"
    assert "config.json" in Hub.files


def test_an_upload_that_fails_says_how_to_try_again(hub: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("a card")
    answer = ask("me/full", str(tmp_path), HF_ENDPOINT=hub, HF_TOKEN="hf_right", HF_HOME=str(tmp_path / ".home"))
    assert f"hf upload me/full {tmp_path}" in answer
    assert "403" in answer
    assert "hf_right" not in answer


WRONG = [
    ("me/new", {"HF_TOKEN": "hf_wrong"}, "does not accept this login"),
    ("me/new", {}, "nobody is logged in"),
    ("me/taken", {"HF_TOKEN": "hf_right"}, "me/taken is on the hub already"),
    ("google/new", {"HF_TOKEN": "hf_right"}, "may write to clinic, me, not to google"),
    ("new", {"HF_TOKEN": "hf_right"}, "OWNER/NAME"),
    ("me/new", {"HF_TOKEN": "hf_right", "HF_ENDPOINT": NOBODY}, "does not answer"),
    ("me/new", {"HF_TOKEN": "hf_right", "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
]


@pytest.mark.parametrize("name, settings, message", WRONG, ids=[message for _, _, message in WRONG])
def test_what_is_wrong_is_said_before_anything_is_made(
    hub: str, tmp_path: Path, name: str, settings: dict[str, str], message: str
) -> None:
    answer = ask(name, **{"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), **settings})
    assert message in answer
    assert answer.startswith("error: --push")
    assert not Hub.made


def test_a_group_may_be_the_owner(hub: str, tmp_path: Path) -> None:
    assert ask("clinic/new", HF_ENDPOINT=hub, HF_HOME=str(tmp_path), HF_TOKEN="hf_right") == "free"
