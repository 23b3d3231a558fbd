"""`xrayexp compare` of sweeps and of runs without predictions: what is written, and a page that works by itself."""

from __future__ import annotations

import csv
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.conftest import Compose
from tests.tracking.browser import assert_stands_alone, browse, needs_browser
from tests.tracking.page_runs import phantoms, write_run
from tests.tracking.sweep_folders import METRIC
from xrayexp.cli import main
from xrayexp.compare import Compared, CompareRequest, compare
from xrayexp.errors import DataError
from xrayexp.search.results import read_sweep, write_json, write_trials
from xrayexp.tracking.sheet import Sheet
from xrayexp.tracking.sheet_of_sweep import sheet_of_sweep

TITLES = (
    "In short", "Trials", "Parallel coordinates", "Importance", "Slices", "Metric against cost", "History",
    "What the constraint and the pruner saved", "Learning curves",
)  # fmt: skip


@pytest.fixture(scope="module")
def cfg(compose: Compose) -> DictConfig:
    return compose("data.source.patients=12")


@pytest.fixture(scope="module")
def sheet(sweep: Path) -> Sheet:
    return sheet_of_sweep(read_sweep(sweep))


@pytest.fixture(scope="module")
def made(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes of the sweep, and what it prints, in shown.txt."""
    folder = tmp_path_factory.mktemp("made")
    with redirect_stdout(StringIO()) as shown:
        assert main(["compare", str(sweep), "--out", str(folder)]) == 0
    (folder / "shown.txt").write_text(shown.getvalue())
    return folder


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    return (made / "comparison.html").read_text(encoding="utf-8")


def compared(*places: Path, out: Path) -> Compared:
    return compare(CompareRequest(tuple(map(str, places)), out, resamples=20, draws=20, examples=0))


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>([^<]*)</h2>", text)


def test_the_page_of_a_sweep(sheet: Sheet, page: str) -> None:
    assert_stands_alone(page, with_images=False)
    assert headings(page) == list(TITLES)
    table = page[page.index('<table id="runs">') : page.index("</table>")]
    heads = re.findall(r"<button[^>]*>([^<]*)</button>", table)
    assert heads[:6] == ["trial", *(axis.key for axis in sheet.axes), METRIC], "what differs comes first"
    numbers = re.findall(r"keep (\d+) lit", table)
    assert numbers[0] == sheet.ranked()[0].name
    assert sorted(map(int, numbers)) == list(range(24))
    assert "optimistic" in page
    assert "optimizer.lr where adapter=delora" in page
    assert "python evaluate.py run=" in page


def test_every_trial_has_its_mark_in_every_figure(sheet: Sheet, page: str) -> None:
    figures = re.findall(r'<svg role="img" aria-label="([^"]*)".*?</svg>', page, flags=re.DOTALL)
    bodies = re.findall(r'<svg role="img".*?</svg>', page, flags=re.DOTALL)
    assert len(figures) == 1 + len(sheet.axes) + 2 + 1 + 1
    found = {
        name: set(re.findall(r'<g data-mark="run-(\d+)">', body)) for name, body in zip(figures, bodies, strict=True)
    }
    everyone = {str(index) for index in range(24)}
    scored = {row.name for row in sheet.rows if METRIC in row.values}
    assert found[f"choices of every trial and its {METRIC}"] == everyone
    assert found[f"{METRIC} by trial, with the best so far"] == scored
    assert found[f"{METRIC} by adapter.r"] == {
        r.name for r in sheet.rows if r.name in scored and "adapter.r" in r.choices
    }
    assert found[f"{METRIC} of every trial by optimiser step"] == {row.name for row in sheet.rows if row.curve}
    assert page.count("<title>trial 3: ") == sum("3" in some for some in found.values())


def test_the_command_needs_no_predictions(sweep: Path, made: Path) -> None:
    shown = " ".join((made / "shown.txt").read_text().split())
    best = read_sweep(sweep).best()
    assert best is not None
    assert f"Best {METRIC}: {best.values[METRIC]:.3f}, trial {best.number}" in shown
    assert f"python evaluate.py run={sweep / best.folder}" in shown
    assert "without a launch" in shown
    rows = list(csv.DictReader((made / "runs.csv").open(newline="")))
    assert len(rows) == 24
    assert (rows[0]["trial"], rows[0]["adapter"]) == (str(best.number), best.params["adapter"])
    assert float(rows[0][METRIC]) == best.values[METRIC]
    assert not (made / "differences.csv").exists()


def test_trials_with_predictions_stand_beside_each_other_too(sweep: Path, cfg: DictConfig, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "rank")
    evaluated = [trial.folder for trial in read_sweep(sweep).in_state("complete")[:2]]
    for index, folder in enumerate(evaluated):
        run = write_run(tmp_path / "made" / folder, cfg, phantoms(cfg), 0.5 * index)
        shutil.copytree(run.path / "evaluation", tmp_path / "rank" / folder / "evaluation")
    found = compared(tmp_path / "rank", out=tmp_path / "out")
    assert found.view is not None
    assert {run.name for run in found.view.runs} == {folder.rpartition("/")[2] for folder in evaluated}
    titles = headings((tmp_path / "out" / "comparison.html").read_text(encoding="utf-8"))
    assert titles[: len(TITLES)] == list(TITLES)
    assert "Differences" in titles


def test_runs_without_predictions(cfg: DictConfig, tmp_path: Path) -> None:
    """Two without, then three of which two have them."""
    for index, name in enumerate(("a", "b", "c")):
        run = write_run(tmp_path / name, cfg, phantoms(cfg), 0.2 * index, seed=index)
        shutil.move(run.path / "evaluation", tmp_path / f"{name}-evaluation")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "differences.csv").write_text("of an earlier comparison")
    without = compared(tmp_path / "a", tmp_path / "b", out=tmp_path / "out")
    assert without.view is None
    assert not (tmp_path / "out" / "differences.csv").exists()
    text = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "No run has predictions on the test split" in text
    assert headings(text) == ["In validation", "Runs and their choices", "Learning curves"]
    for name in ("a", "b"):
        shutil.move(tmp_path / f"{name}-evaluation", tmp_path / name / "evaluation")
    with_two = compared(tmp_path / "a", tmp_path / "b", tmp_path / "c", out=tmp_path / "out")
    assert with_two.view is not None
    assert with_two.sheet is not None
    assert [run.name for run in with_two.view.runs] == ["a", "b"]
    assert [row.name for row in with_two.sheet.rows] == ["a", "b", "c"]
    assert with_two.sheet.about[0].endswith(f"run c first: python evaluate.py run={tmp_path / 'c'}")


def test_young_sweeps_and_several_objectives(sweep: Path, tmp_path: Path) -> None:
    """Nothing to draw is no error; a second objective is a cost with a front of its own."""
    found = read_sweep(sweep)
    about = {"name": "x", "n_trials": 9, "sampler": "NSGAIISampler", "pruner": "NopPruner", "fixed": []}
    for file, objectives in (("young", {METRIC: "maximize"}), ("many", {METRIC: "maximize", "speed": "maximize"})):
        (tmp_path / file).mkdir()
        write_json(tmp_path / file / "sweep.json", about | {"objectives": objectives})
    with pytest.raises(DataError, match="has no trial yet"):
        compared(tmp_path / "young", out=tmp_path / "out")
    infeasible = found.in_state("infeasible")[:1]
    write_trials(tmp_path / "young", infeasible)
    compared(tmp_path / "young", out=tmp_path / "out")
    young = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert headings(young) == ["In short", "Trials", "What the constraint and the pruner saved"]
    assert "No trial has ended well" in young
    complete = enumerate(found.in_state("complete")[:8])
    several = [replace(trial, values={**trial.values, "speed": float(index % 4)}) for index, trial in complete]
    write_trials(tmp_path / "many", several)
    many = compared(tmp_path / "many", out=tmp_path / "out").sheet
    assert many is not None
    text = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert f"{METRIC} by speed, with the Pareto front" in text
    assert "Importance needs at least 10" in text
    assert {int(row.name) for row in many.front("speed")} == {
        trial.number for trial in read_sweep(tmp_path / "many").pareto()
    }


PROBE = """
<script>
addEventListener("error", event => document.body.dataset.error = event.message);
addEventListener("load", () => {
  const table = document.getElementById("runs"), rows = () => [...table.tBodies[0].rows];
  const head = words => [...table.querySelectorAll("th[data-sort]")].find(one => one.textContent === words);
  const column = one => rows().map(row => row.cells[one.cellIndex].dataset.v ?? null);
  const seen = () => rows().filter(row => !row.hidden).map(row => row.cells[0].dataset.v);
  const marks = name => [...document.querySelectorAll(`svg [data-mark="${name}"]`)];
  const drawn = one => getComputedStyle(one).display !== "none";
  const found = {}, loaded = performance.getEntriesByType("resource");
  found.resources = loaded.filter(one => !one.name.startsWith("data:")).length;
  const rate = head("optimizer.lr"), button = rate.firstElementChild;
  button.focus(); found.focused = document.activeElement === button;
  button.click(); found.down = column(rate); found.order = rate.getAttribute("aria-sort");
  button.click(); found.up = column(rate);
  const box = document.querySelector("input.filter[data-of=runs]"), type = words => {
    box.value = words; box.dispatchEvent(new Event("input")); };
  found.hidden = box.hidden;
  type("DELORA complete"); found.words = seen();
  found.told = document.getElementById("runs-left").textContent;
  const gone = rows().find(row => row.hidden && marks(row.dataset.mark).length);
  found.out = marks(gone.dataset.mark).some(drawn);
  type(""); found.back = marks(gone.dataset.mark).every(drawn);
  const state = document.querySelector('input.kind[value="complete"]');
  state.click(); found.states = seen(); state.click(); found.all = seen().length;
  const row = rows().find(row => row !== gone && marks(row.dataset.mark).length > 5), name = row.dataset.mark;
  row.dispatchEvent(new MouseEvent("mouseenter"));
  found.lit = marks(name).every(one => one.classList.contains("lit"));
  found.dimmed = Number(getComputedStyle(marks(gone.dataset.mark)[0]).opacity) < 0.5;
  row.dispatchEvent(new MouseEvent("mouseleave"));
  found.unlit = document.querySelectorAll(".lit, .lighting").length;
  row.querySelector("input").click();
  found.pinned = marks(name).every(one => one.classList.contains("pinned")) && document.body.matches(".lighting");
  row.querySelector("input").click();
  const figure = marks(name)[0]; figure.dispatchEvent(new MouseEvent("mouseenter"));
  found.rowLit = row.classList.contains("lit");
  found.wide = document.documentElement.scrollWidth > innerWidth;
  found.error = document.body.dataset.error ?? null;
  const left = document.createElement("pre");
  left.id = "probe"; left.textContent = JSON.stringify(found); document.body.append(left);
});
</script>
"""


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [500, 1280])
def test_it_works_in_a_browser(sheet: Sheet, page: str, width: int, tmp_path: Path) -> None:
    """On a phone and a desk: no request, sorting, filters by words and by state, marks that light up together."""
    found = browse(page.replace("<head>", f"<head>{PROBE}", 1), tmp_path, width)
    assert found["error"] is None
    assert found["resources"] == 0
    assert not found["wide"]
    assert found["focused"]
    assert found["order"] == "descending"
    assert not found["hidden"]
    up = [float(value) for value in found["up"] if value is not None]
    assert up == sorted(up)
    assert len(up) > 10
    assert [float(value) for value in found["down"] if value is not None] == up[::-1]
    assert found["up"][len(up) :] == [None] * (24 - len(up)), "what is not there stands last"
    expected = {row.name for row in sheet.rows if row.choices["adapter"] == "delora" and row.state == "complete"}
    assert {f"{float(value):g}" for value in found["words"]} == expected
    assert found["told"] == f"{len(expected)} of 24"
    assert not found["out"]
    assert found["back"]
    assert {f"{float(value):g}" for value in found["states"]} == {r.name for r in sheet.rows if r.state != "complete"}
    assert found["all"] == 24
    assert found["lit"]
    assert found["dimmed"]
    assert found["unlit"] == 0
    assert found["pinned"]
    assert found["rowLit"]
