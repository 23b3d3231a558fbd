"""The W&B workspace, read back by the library that made it, and saved on a server that stands in for W&B's."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb_workspaces.reports.v2.interface as wr
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from wandb_workspaces.workspaces import Workspace
from wandb_workspaces.workspaces.internal import View, WorkspaceViewspec

from xrayexp.cli import main, wandb_dashboard
from xrayexp.tracking import dashboard as module
from xrayexp.tracking.dashboard import Dashboard, DashboardRequest, build

pytestmark = pytest.mark.usefixtures("logged_out")

METRIC = "val/micro_f1"


def request(folder: Path, **changes: Any) -> DashboardRequest:
    known = {"project": "chest", "entity": "team", "metric": METRIC, "group": None, "runs": folder / "runs"}
    return DashboardRequest(**{**known, "out": folder / "out" / "workspace.json", "save": False, **changes})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, one of them evaluated, with a finding that is never true."""
    for name in ("a", "b"):
        (tmp_path / "runs" / name / "evaluation" / "test").mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    findings = {f"finding {number:02d}": {"support": 50 - number} for number in range(12)} | {"never": {"support": 0}}
    file = tmp_path / "runs" / "b" / "evaluation" / "test" / "metrics.json"
    file.write_text(json.dumps({"findings": findings}))
    return tmp_path


def read_back(file: Path) -> Any:
    """A workspace as the library reads it from the server."""
    spec = WorkspaceViewspec.model_validate_json(file.read_text(encoding="utf-8"))
    view = View(entity="team", project="chest", display_name="shown", name="nw-x-v", id="x", spec=spec)
    return Workspace._from_model(view)


def test_the_panels_read_back(runs: Path) -> None:
    asked = request(runs, group="ranks, 12 GB")
    build(asked)
    workspace = read_back(asked.out)
    choices, memory, curves, bars = (section.panels for section in workspace.sections)
    parallel, importance = choices
    axes = [(type(column.metric), column.metric.name) for column in parallel.columns]
    configs = [(wr.Config, name) for name in ("adapter_name", "adapter_r", "lr")]
    assert axes == [*configs, (wr.SummaryMetric, METRIC)]
    assert importance.with_respect_to == METRIC
    assert [(panel.x.name, panel.y.name) for panel in memory] == [("peak_memory_gib", METRIC), ("fit_seconds", METRIC)]
    for panel, name in zip(curves, (METRIC, "train/loss"), strict=True):
        assert [panel.x.name, *(metric.name for metric in panel.y)] == ["trainer/global_step", name]
        assert (panel.groupby.name, panel.groupby_aggfunc, panel.groupby_rangefunc) == (
            "adapter_name",
            "mean",
            "minmax",
        )
    named = [metric.name for panel in bars for metric in panel.metrics]
    assert named == [f"test/finding_f1/finding_{number:02d}" for number in range(12)]
    assert {panel.groupby.name for panel in bars} == {"adapter_name"}
    runset = workspace.runset_settings
    assert runset.filters == "Metric(\"JobType\") != 'sweep' and Metric(\"Group\") == 'ranks, 12 GB'"
    assert [(one.item.name, one.ascending) for one in runset.order] == [(METRIC, False)]


def test_without_evaluated_runs_there_are_no_bars(tmp_path: Path) -> None:
    asked = request(tmp_path, metric="test/macro_f1")
    build(asked)
    workspace = read_back(asked.out)
    assert [section.name for section in workspace.sections][2:] == ["Learning curves by adapter"]
    assert [panel.y[0].name for panel in workspace.sections[2].panels] == ["val/macro_f1", "train/loss"]


@given(group=st.from_regex(wandb_dashboard.NAME, fullmatch=True))
@hypothesis_settings(max_examples=30)
def test_a_group_that_the_command_takes_is_the_one_that_is_looked_for(group: str) -> None:
    asked = request(Path("none"), group=group)
    spec = json.loads(Dashboard(module._workspace(asked, []), []).to_json())
    (runset,) = spec["section"]["runSets"]
    assert [one["value"] for one in runset["filters"]["filters"]] == ["sweep", group]


@pytest.mark.parametrize("group", ["r=8", "it's", "a<b", ""])
def test_other_groups_are_refused(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["wandb-dashboard", "--group", group])
    assert stop.value.code == 2
    assert "argument --group: may have letters" in capsys.readouterr().err


def test_a_missing_package_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert main(["wandb-dashboard", "--out", str(tmp_path / "w.json")]) == 2
    assert capsys.readouterr().err == (
        "error: wandb-dashboard needs the package wandb-workspaces: pip install wandb-workspaces\n"
    )


class Server(ThreadingHTTPServer):
    """Answers like W&B's, and remembers what it was sent.

    Attributes:
        saved: variables of the requests that save a view.
        refuses: whether it knows nobody.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.saved: list[dict[str, Any]] = []
        self.refusal = ""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" not in query:
            return {"data": {"viewer": {"id": "1", "entity": "ward", "username": "ana", "teams": {"edges": []}}}}
        if self.refusal:
            return {"errors": [{"message": self.refusal}], "data": None}
        self.saved.append(variables)
        return {"data": {"upsertView": {"view": {"id": "1", "name": variables["name"]}, "inserted": True}}}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps(self.server.answer(asked["query"], asked.get("variables") or {})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine with a login for it."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield running
        running.shutdown()
        thread.join()


Command = Callable[..., int]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`command(*options)`: the exit status of `xrayexp wandb-dashboard --save OPTIONS`."""
    places = ("--out", str(tmp_path / "w.json"), "--runs", str(tmp_path / "none"))
    return lambda *options: main(["wandb-dashboard", "--save", *places, *options])


def test_saving_sends_the_workspace(
    command: Command, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the login's own entity, when no other is named."""
    assert command("--project", "chest", "--group", "ranks") == 0
    (sent,) = server.saved
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("ward", "chest", f"ranks by {METRIC}")
    assert json.loads(sent["spec"]) == json.loads((tmp_path / "w.json").read_text())
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("saving it needs the network and a W&B login")
    assert said[-1].startswith(f"saved: http://127.0.0.1:{server.server_port}/ward/chest?nw=")


def test_what_the_server_refuses_is_one_sentence(
    command: Command, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.refusal = "project not found"
    assert command("--entity", "team") == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: W&B has not saved the workspace (")
    assert "project not found" in said.err
    assert len(said.err.splitlines()) == 1
    assert (tmp_path / "w.json").exists()


def test_saving_without_a_login_is_one_sentence(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command() == 2
    said = capsys.readouterr()
    assert "needs the network and a W&B login" in said.out
    assert said.err.startswith("error: --save needs a W&B login (no key for ")
    assert len(said.err.splitlines()) == 1


@pytest.mark.slow
def test_no_answer_is_one_sentence(
    command: Command, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert command() == 2
    assert capsys.readouterr().err.startswith("error: W&B has not saved the workspace (Failed to verify")
