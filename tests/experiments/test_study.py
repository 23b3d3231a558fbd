"""The form of experiments: what is computed, kept, computed again and refused."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from experiments.results import Claim, Results, Row, Rows, Values, claims_block, fill
from experiments.study import Place, Study, main, run
from xrayexp.errors import ConfigError, UserError

README = """# Toy

<!-- claims: filled by run.py -->
<!-- end of claims -->

<!-- total: filled by run.py -->
stale
<!-- end of total -->

<!-- environment: filled by run.py -->
<!-- end of environment -->
"""


def plan(quick: bool) -> list[Row]:
    return [Row(f"row-{n}", {"number": n}) for n in range(1 if quick else 3)]


def compute(row: Row, place: Place) -> Values:
    with (place.out / "computed.txt").open("a") as file:
        file.write(f"{row.key}\n")
    if (place.out / f"break-{row.key}").exists():
        raise ConfigError(["this row is broken", "twice"])
    return {"number": row.settings["number"], "process": os.getpid()}


def claims(rows: Rows) -> list[Claim]:
    return [Claim("total", sum(values["number"] for values in rows.values()), 2, "at least")]


def blocks(rows: Rows) -> dict[str, str]:
    return {"total": f"{len(rows)} rows"}


@pytest.fixture
def toy(tmp_path: Path) -> Study:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "README.md").write_text(README)
    return Study(folder, plan, compute, claims, blocks)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    out = tmp_path / "out"
    out.mkdir()
    return Place(out, out / "work", recorded=False)


def computed(place: Place) -> list[str]:
    """The rows that were computed since the last question, in order."""
    file = place.out / "computed.txt"
    keys = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return keys


def start(toy: Study, place: Place, jobs: int = 0) -> Results:
    return run(toy, place, "python toy", quick=False, jobs=jobs)


def test_rows_claims_and_readme_are_written(toy: Study, place: Place) -> None:
    results = start(toy, place)
    assert Results.read(place.out / "results.json") == results
    assert results.claims == ({"name": "total", "value": 3, "bound": 2, "direction": "at least", "holds": True},)
    readme = (place.out / "README.md").read_text()
    assert "| total | 3 | at least 2 | yes |" in readme
    assert "3 rows" in readme
    assert "stale" not in readme
    assert (toy.folder / "README.md").read_text() == README


def test_recorded_rows_are_not_computed_again(toy: Study, place: Place) -> None:
    first = start(toy, place)
    assert computed(place) == ["row-0", "row-1", "row-2"]
    assert start(toy, place) == first
    assert computed(place) == []


def test_row_with_other_settings_is_computed_again_in_its_place(toy: Study, place: Place) -> None:
    start(toy, place)
    computed(place)
    changed = replace(toy, plan=lambda quick: [replace(row, settings={"number": 7}) if row.key == "row-1" else row
                                               for row in plan(quick)])  # fmt: skip
    results = start(changed, place)
    assert computed(place) == ["row-1"]
    assert [values["number"] for values in results.values.values()] == [0, 7, 2]


def test_row_that_is_no_longer_planned_is_dropped(toy: Study, place: Place) -> None:
    start(toy, place)
    results = start(replace(toy, plan=lambda quick: plan(quick)[:2]), place)
    assert list(results.values) == ["row-0", "row-1"]
    assert results.claims[0]["value"] == 1


@pytest.mark.parametrize("jobs, kept", [(0, ["row-0"]), (1, ["row-0", "row-2"])])
def test_run_goes_on_where_it_was_cut_off(toy: Study, place: Place, jobs: int, kept: list[str]) -> None:
    (place.out / "break-row-1").touch()
    with pytest.raises(UserError, match="row-1: the config cannot be used as it is:\n  this row is broken\n  twice"):
        start(toy, place, jobs)
    unfinished = Results.read(place.out / "results.json")
    assert [row.key for row in unfinished.rows] == kept
    assert unfinished.claims == ()
    (place.out / "break-row-1").unlink()
    computed(place)
    results = start(toy, place, jobs)
    assert sorted([*kept, *computed(place)]) == list(results.values)
    assert results.claims[0]["holds"]


def test_every_row_has_a_process_of_its_own(toy: Study, place: Place) -> None:
    processes = {values["process"] for values in start(toy, place, jobs=2).values.values()}
    assert len(processes) == 3
    assert os.getpid() not in processes


def test_rows_of_another_environment_are_not_joined(toy: Study, place: Place) -> None:
    results = start(toy, place)
    file = place.out / "results.json"
    elsewhere = results.environment | {"cores": -1, "commit": "other"}
    replace(results, environment=elsewhere).write(file)
    assert start(toy, place).environment == elsewhere, "nothing was computed here"
    replace(results, environment=elsewhere, rows=results.rows[:1]).write(file)
    with pytest.raises(UserError, match="another environment \\(cores was -1"):
        start(toy, place)


def test_another_commit_is_no_other_environment(toy: Study, place: Place) -> None:
    results = start(toy, place)
    older = results.environment | {"commit": "older"}
    replace(results, environment=older, rows=results.rows[:1]).write(place.out / "results.json")
    assert start(toy, place).environment == results.environment


def test_quick_never_writes_over_the_recorded_results(
    toy: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--out", str(toy.folder)])
    with pytest.raises(SystemExit) as stopped:
        main(toy)
    assert stopped.value.code == 2
    assert "give another --out" in capsys.readouterr().err
    assert not (toy.folder / "results.json").exists()


def test_command_line_runs_and_says_what_holds(
    toy: Study, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--out", str(place.out)])
    main(toy)
    assert "total: 0, at least 2: DOES NOT HOLD" in capsys.readouterr().out
    assert json.loads((place.out / "results.json").read_text())["command"] == "python experiments/toy/run.py --quick"


@pytest.mark.parametrize(
    "value, direction, holds",
    [(1.0, "at least", True), (0.9, "at least", False), (1.0, "at most", True), (1.1, "at most", False)],
)
def test_claim_holds_on_its_side_of_the_bound(
    value: float, direction: Literal["at least", "at most"], holds: bool
) -> None:
    claim = Claim("it", value, 1.0, direction)
    assert claim.holds is holds
    assert ("All 1 claims hold." in claims_block([claim.to_json()])) is holds


def test_filling_twice_changes_nothing() -> None:
    once = fill(README, {"total": "5 rows"})
    assert fill(once, {"total": "5 rows"}) == once
    assert "5 rows" in once


def test_missing_marker_is_an_error() -> None:
    with pytest.raises(ValueError, match="no block 'figure'"):
        fill(README, {"figure": "x"})


@pytest.mark.parametrize("given", [[], ["--model-dir", "elsewhere"]])
def test_models_are_kept_where_they_are_asked_for(
    toy: Study, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: list[str]
) -> None:
    expected = tmp_path / given[1] if given else place.work / "models"
    keeping = replace(toy, models=tmp_path / "usual", isolated=False, compute=lambda row, place: {
        "number": place.models == expected
    })  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--out", str(place.out), *given])
    main(keeping)
    assert Results.read(place.out / "results.json").values["row-0"]["number"] is True


def test_an_experiment_without_models_has_no_folder_for_them(
    toy: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--model-dir", "elsewhere"])
    with pytest.raises(SystemExit):
        main(toy)
    assert "unrecognized arguments: --model-dir" in capsys.readouterr().err


def test_a_package_that_only_this_experiment_needs_is_asked_for_first(
    toy: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main(replace(toy, requires=("json", "no_such_package")))
    assert stop.value.code == 2
    told = "error: no_such_package is not installed, which only this experiment needs: "
    assert told + "pip install -r experiments/toy/requirements.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
