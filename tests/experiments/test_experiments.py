"""Every experiment: its --quick runs, its claims come from its rows, its README says what its results.json says."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from experiments.results import LIBRARIES, Results
from experiments.study import Study

ROOT = Path(__file__).parents[2]
NAMES = sorted(file.parent.name for file in (ROOT / "experiments").glob("*/run.py"))
SLOW = (  # even with --quick
    "adapter_quality", "curriculum", "full_size_cpu", "gpu_12gb", "memory_plan", "resume_exactness", "speed_vs_trl",
    "sweep_quality", "tracking_cost",
)  # fmt: skip
AWAITS = "Awaits a GPU"  # what the README of an experiment says as long as it does

every = pytest.mark.parametrize("name", NAMES)
every_quickly = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NAMES]
)


def study(name: str) -> Study:
    """What the experiment's run.py describes."""
    found: Study = importlib.import_module(f"experiments.{name}.run").STUDY
    return found


def run(name: str, out: Path) -> str:
    """What `run.py --quick` prints."""
    command = [sys.executable, str(ROOT / "experiments" / name / "run.py"), "--quick", "--out", str(out)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`quick(name)`: the folder of a quick run, the same for all tests."""

    @cache
    def folder(name: str) -> Path:
        if missing := [package for package in study(name).requires if find_spec(package) is None]:
            pytest.skip(f"experiments/{name} needs {', '.join(missing)}")
        out = tmp_path_factory.mktemp(name)
        run(name, out)
        shutil.rmtree(out / "work", ignore_errors=True)  # gigabytes, with some
        return out

    return folder


def recorded(name: str) -> Results:
    """The results in the repository."""
    file = ROOT / "experiments" / name / "results.json"
    awaits = AWAITS in (ROOT / "experiments" / name / "README.md").read_text(encoding="utf-8")
    assert awaits == (study(name).needs_gpu and not file.exists())
    if awaits:
        pytest.skip(f"experiments/{name} has not seen a GPU")
    assert file.exists(), f"run experiments/{name}/run.py and commit its results"
    return Results.read(file)


@every_quickly
def test_results_have_the_common_form(name: str, quick: Any) -> None:
    content = json.loads((quick(name) / "results.json").read_text(encoding="utf-8"))
    assert set(content) == {"experiment", "command", "environment", "rows", "claims"}
    assert content["experiment"] == name
    assert content["command"] == f"python experiments/{name}/run.py --quick"
    assert set(content["environment"]) == {"python", "platform", "cpu", "cores", "threads", "versions", "commit"}
    assert set(content["environment"]["versions"]) == {*LIBRARIES, "xrayexp"}
    assert [row["key"] for row in content["rows"]] == [row.key for row in study(name).plan(True)]
    assert all(set(row) == {"key", "settings", "values"} and row["values"] for row in content["rows"])
    assert content["claims"] or study(name).needs_gpu
    for claim in content["claims"]:
        assert set(claim) == {"name", "value", "bound", "direction", "holds"}
        kept = claim["value"] - claim["bound"]
        assert claim["holds"] == (kept >= 0 if claim["direction"] == "at least" else kept <= 0)


@every_quickly
def test_results_name_neither_machine_nor_place(name: str, quick: Any) -> None:
    out: Path = quick(name)
    text = (out / "results.json").read_text(encoding="utf-8")
    assert str(out) not in text
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert platform.node() not in text


@every_quickly
def test_quick_run_fills_a_readme_and_leaves_the_recorded_one(name: str, quick: Any) -> None:
    out: Path = quick(name)
    results = Results.read(out / "results.json")
    assert (out / "README.md").read_text(encoding="utf-8") == study(name).readme(results)
    assert all(claim["name"] in study(name).readme(results) for claim in results.claims)


@every_quickly
def test_second_run_computes_nothing_but_the_claims(name: str, quick: Any, tmp_path: Path) -> None:
    before = Results.read(quick(name) / "results.json")
    content = json.loads((quick(name) / "results.json").read_text(encoding="utf-8"))
    content["rows"] = [row | {"values": _plus_one(row["values"])} for row in content["rows"]]
    (tmp_path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    printed = run(name, tmp_path)
    after = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert f"{len(before.rows)} of {len(before.rows)} rows are recorded already" in printed
    assert after["rows"] == content["rows"]
    old = {claim["name"]: claim["value"] for claim in before.claims}
    new = {claim["name"]: claim["value"] for claim in after["claims"]}
    assert set(new) == set(old)
    assert any(new[name] != old[name] for name in old) or not old


def _plus_one(content: Any) -> Any:
    """The same content with 1 added to every number."""
    match content:
        case dict():
            return {key: _plus_one(value) for key, value in content.items()}
        case list():
            return [_plus_one(value) for value in content]
        case int() | float() if not isinstance(content, bool):
            return content + 1
        case _:
            return content


@every
def test_recorded_results_are_complete(name: str) -> None:
    results = recorded(name)
    assert results.command == f"python experiments/{name}/run.py"
    assert [row.key for row in results.rows] == [row.key for row in study(name).plan(False)]


@every
def test_recorded_claims_come_from_the_rows_and_hold(name: str) -> None:
    results = recorded(name)
    assert [claim.to_json() for claim in study(name).claims(results.values)] == list(results.claims)
    assert [claim["name"] for claim in results.claims if not claim["holds"]] == []


@every
def test_readme_says_what_the_results_say(name: str) -> None:
    readme = (ROOT / "experiments" / name / "README.md").read_text(encoding="utf-8")
    assert readme == study(name).readme(recorded(name))


@every
def test_readme_shows_figures_that_exist_and_are_small(name: str) -> None:
    recorded(name)
    readme = (ROOT / "experiments" / name / "README.md").read_text(encoding="utf-8")
    shown = [part.partition(")")[0] for part in readme.split("](") if part.partition(")")[0].endswith(".png")]
    assert bool(shown) == (study(name).draw is not None)
    for figure in shown:
        assert (ROOT / "experiments" / name / figure).stat().st_size <= 150_000
