"""`xrayexp compare` and `xrayexp gallery`: what they find and refuse, and pages that need nothing and are safe."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from tests.conftest import Compose
from tests.tracking.browser import assert_stands_alone, browse, needs_browser
from tests.tracking.page_runs import phantoms, write_predictions, write_run
from xrayexp.cli import main
from xrayexp.compare import CompareRequest, compare
from xrayexp.errors import ConfigError, DataError
from xrayexp.metrics.predictions import read_predictions
from xrayexp.tracking.choices import differing_choices
from xrayexp.tracking.evaluated import find_evaluated
from xrayexp.tracking.page.comparison_page import comparison_page
from xrayexp.tracking.page.view import View


@pytest.fixture(scope="module")
def cfg(compose: Compose) -> DictConfig:
    return compose("data.source.patients=30")


@pytest.fixture(scope="module")
def runs(cfg: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs in one folder: a good one, a bad one, and one of other data that has half of the images."""
    folder, examples = tmp_path_factory.mktemp("runs"), phantoms(cfg)
    write_run(folder / "good", cfg, examples, 0.1)
    write_run(folder / "bad", cfg, examples, 0.8, seed=7)
    other = cfg.copy()
    other.data.split.seed = 5
    write_run(folder / "half", other, examples[: len(examples) // 2], 0.5)
    return folder


@pytest.fixture(scope="module")
def view(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> View:
    """The good run as reference, beside the bad one; its files are in `view.folder`."""
    return view_of(request(runs / "good", runs / "bad", out=tmp_path_factory.mktemp("out")))


def view_of(asked: CompareRequest) -> View:
    """The part of the comparison that is about reports."""
    view = compare(asked).view
    assert view is not None
    return view


def request(*places: Path, out: Path, **options: object) -> CompareRequest:
    return CompareRequest(tuple(map(str, places)), out, resamples=100, draws=200, **options)  # type: ignore[arg-type]


def test_the_page_needs_nothing_and_is_safe(view: View) -> None:
    text = comparison_page(view)
    assert_stands_alone(text)
    for title in ("Choices that differ", "Differences", "Findings", "Examples that changed", "Training", "computed"):
        assert title in text
    assert "Calibration" not in text
    assert text.count('class="mark') > 20
    assert "train/loss by optimiser step" in text


def test_it_says_which_run_is_worse(view: View) -> None:
    micro = view.comparison.runs["bad"].values["micro_f1"]
    assert micro.high < 0
    assert view.verdict(micro, view.comparison.definitions["micro_f1"]) in ("worse", "unclear")
    assert view.choices == {"seed": {"good": "0", "bad": "7"}}
    assert not view.warnings


def test_tables_are_written(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        str(runs / "good"),
        str(runs / "bad"),
        "--metric",
        "micro_f1",
        "--metric",
        "findings",
        "--draws",
        "200",
    ]
    assert main(["compare", *arguments, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "bad beside good" in shown
    assert "micro F1" in shown
    assert "over 1 tests" in shown
    tables = {file.stem: list(csv.DictReader(file.open(newline=""))) for file in tmp_path.glob("*.csv")}
    facts = [(row["run"], row["seed"], row["val/micro_f1"]) for row in tables["runs"]]
    assert facts == [("good", "0", "0.5"), ("bad", "7", "0.5")]
    [row] = tables["differences"]
    assert (row["reference"], row["run"], row["metric"], row["better"]) == ("good", "bad", "micro_f1", "higher")
    assert float(row["difference"]) == pytest.approx(float(row["value"]) - float(row["reference_value"]), abs=1e-5)
    assert row["p"] == row["p_holm"]
    assert {row["metric"] for row in tables["classes"]} == {"findings"}
    changed = {row["image"] for row in tables["changes"] if row["turn"] == "right to wrong"}
    assert len(changed) == int(re.search(r"(\d+) right to wrong", shown)[1])  # type: ignore[index]


def test_a_folder_of_runs_a_pattern_and_a_reference(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [one.name for one in find_evaluated([str(runs)], "test")] == ["bad", "good", "half"]
    found = view_of(request(runs / "*", out=tmp_path, reference="half"))
    assert [run.name for run in found.runs] == ["half", "bad", "good"]
    assert found.comparison.dropped["half"] == 0
    assert found.comparison.dropped["good"] == found.comparison.dropped["bad"] > 0
    assert "data (data.split.seed)" in found.warnings[0]
    text = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "All values" in text
    assert "images of good" not in text
    assert f"{found.comparison.dropped['good']} of good" in text.replace(",", "")
    assert_stands_alone(text)


def test_another_checkpoint_of_the_same_run(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "good", tmp_path / "run")
    run = tmp_path / "run"
    reports = read_predictions(run / "evaluation" / "test" / "predictions.jsonl")
    reports = [replace(r, confidence=dict.fromkeys(r.predicted.names, 0.875)) for r in reports if r.predicted]
    precision = np.mean([name in r.truth.names for r in reports if r.confidence for name in r.confidence])
    base = write_predictions(run / "evaluation" / "test_none", reports)
    found = view_of(request(base, run, out=tmp_path / "out"))
    assert [(one.name, one.checkpoint) for one in found.runs] == [("run (none)", "none"), ("run", "best")]
    assert any("different checkpoints" in warning for warning in found.warnings)
    text = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "Calibration" in text
    assert f"{abs(precision - 0.875):.3f}" in text


def test_evaluations_of_one_run_on_other_data_have_names(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "good", tmp_path / "run")
    for folder in ("padchest_gr", "padchest_gr_none"):
        shutil.copytree(tmp_path / "run" / "evaluation" / "test", tmp_path / "run" / "evaluation" / folder)
    found = find_evaluated([str(path) for path in sorted((tmp_path / "run" / "evaluation").iterdir())], "test")
    assert [(one.name, one.checkpoint) for one in found] == [
        ("run (padchest_gr)", "best"), ("run (padchest_gr_none)", "none"), ("run", "best"),
    ]  # fmt: skip


def test_images_that_are_not_here(runs: Path, tmp_path: Path) -> None:
    """The page says so, and shows the rest."""
    shutil.copytree(runs / "good" / "evaluation" / "test", tmp_path / "alone")
    found = view_of(request(tmp_path / "alone", runs / "bad", out=tmp_path / "out", metric=["micro_f1"]))
    assert all(picture.image is None for picture in found.pictures.values())
    assert "belong to no run" in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")


def test_what_cannot_be_compared_is_one_sentence(runs: Path, tmp_path: Path, cfg: DictConfig) -> None:
    good = runs / "good"
    for places, words in (
        ([good], "at least two runs, not good alone"),
        ([good, tmp_path / "nowhere"], "no such folder"),
        ([good, tmp_path / "no*"], "nothing matches"),
        ([good, tmp_path], "holds neither predictions.jsonl nor a run"),
    ):
        with pytest.raises(DataError, match=words):
            compare(request(*places, out=tmp_path / "out"))
    with pytest.raises(DataError, match="--reference other is none of the runs: good, bad"):
        compare(request(good, runs / "bad", out=tmp_path / "out", reference="other"))
    with pytest.raises(ConfigError, match="no value 'micro_f2': do you mean micro_f1"):
        compare(request(good, runs / "bad", out=tmp_path / "out", metric=["micro_f2"]))
    write_run(tmp_path / "untested", cfg, phantoms(cfg)[:1], 0.0).evaluation("test", "best").rename(tmp_path / "gone")
    with pytest.raises(DataError, match=r"no predictions on the test split: python evaluate.py run="):
        compare(request(good, tmp_path / "untested", out=tmp_path / "out", metric=["micro_f1"]))
    assert not (tmp_path / "out").exists()


def test_choices_are_public_and_only_those_that_differ() -> None:
    configs = {
        "a": {"seed": 1, "data": {"root": "/home/somebody/PadChest", "about": {"title": "x"}}, "logger": {"csv": 1}},
        "b": {"seed": 1, "data": {"root": "/mnt/PadChest2", "about": {"title": "y"}}, "adapter": {"r": 8, "lr": 1e-4}},
        "unknown": {},
    }
    assert differing_choices(configs) == {
        "data.root": {"a": "PadChest", "b": "PadChest2", "unknown": "-"},
        "adapter.r": {"a": "-", "b": "8", "unknown": "-"},
        "adapter.lr": {"a": "-", "b": "0.0001", "unknown": "-"},
    }


def test_the_gallery_shows_the_worst_first(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", str(runs / "bad"), "--most", "5"]) == 0
    page = runs / "bad" / "evaluation" / "test" / "gallery.html"
    assert str(page) in capsys.readouterr().out.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    assert_stands_alone(text)
    wrong = [float(found) for found in re.findall(r"wrong by ([\d.]+)", text)]
    assert len(wrong) == text.count("<article") == 5
    assert wrong == sorted(wrong, reverse=True)
    assert wrong[0] > 0
    for words in ("\u2212</b>", "+</b>", "missed</small>", "invented</small>"):
        assert words in text, "a mark is a sign and a word, not a colour alone"
    assert main(["gallery", str(runs)]) == 2
    assert "the gallery shows one" in capsys.readouterr().err


PROBE = """
<script>
addEventListener("error", event => document.body.dataset.error = event.message);
addEventListener("load", () => {
  const table = document.getElementById("findings-1");
  const heads = [...table.querySelectorAll("th[data-sort]")];
  const column = head => [...table.tBodies[0].rows].map(row => row.cells[head.cellIndex].dataset.v ?? null);
  const loaded = performance.getEntriesByType("resource").filter(one => !one.name.startsWith("data:"));
  const found = {resources: loaded.length};
  const name = heads.find(head => head.textContent.startsWith("finding"));
  const difference = heads.find(head => head.textContent.startsWith("difference"));
  name.firstElementChild.click(); found.names = column(name);
  difference.firstElementChild.click(); found.down = column(difference);
  difference.firstElementChild.click(); found.up = column(difference);
  found.order = difference.getAttribute("aria-sort");
  const box = document.querySelector('input[data-of="findings-1"]');
  box.value = "NODULE"; box.dispatchEvent(new Event("input"));
  found.left = [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[0].textContent);
  found.wide = document.documentElement.scrollWidth > innerWidth;
  found.error = document.body.dataset.error ?? null;
  const box2 = document.createElement("pre");
  box2.id = "probe"; box2.textContent = JSON.stringify(found); document.body.append(box2);
});
</script>
"""


@needs_browser
def test_it_works_in_a_browser(view: View, tmp_path: Path) -> None:
    """At a phone's width: no error, no request, nothing wider than the screen; sorting and filtering work."""
    found = browse(comparison_page(view).replace("<head>", f"<head>{PROBE}", 1), tmp_path)
    assert found["error"] is None
    assert found["resources"] == 0
    assert not found["wide"]
    assert found["names"] == sorted(found["names"])
    up = [float(value) for value in found["up"]]
    assert up == sorted(up)
    assert [float(value) for value in found["down"]] == up[::-1]
    assert found["order"] == "ascending"
    assert found["left"] == ["nodule"]
