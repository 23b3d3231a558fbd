"""`python evaluate.py` on what no run made: other data, a file of predictions, a model that was never trained here."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from xrayexp import pipeline
from xrayexp.data.boxes import MEDGEMMA, PIXELS, ImageBoxes
from xrayexp.data.config import DataSection
from xrayexp.data.examples import Example
from xrayexp.data.partition import partition
from xrayexp.data.phantom import PhantomSource
from xrayexp.data.report import Finding, write_report
from xrayexp.errors import UserError
from xrayexp.tracking.summary import EvaluationSummary, TrainingSummary

Compose = Callable[..., DictConfig]
TINY = "pretrained=pkg://xrayexp/models/tiny"
PHANTOMS = (
    "data=phantom",
    "data.source.patients=40",
    "data.source.seed=7",
    "data.split.shares={train: 0, validation: 0, test: 1}",
    "data.max_images={test: 8}",
    "metrics.bootstrap=0",
)


@pytest.fixture
def evaluate(compose: Compose, tmp_path: Path) -> Callable[..., EvaluationSummary]:
    """`evaluate(*overrides)`, written into an empty folder unless it is a run's."""

    def evaluated(*overrides: str) -> EvaluationSummary:
        summary = pipeline.evaluate(compose(f"output_dir={tmp_path / 'out'}", *overrides, config="evaluate"))
        assert isinstance(summary, EvaluationSummary)
        return summary

    return evaluated


@pytest.fixture(scope="module")
def phantoms(compose: Compose) -> tuple[PhantomSource, list[Example]]:
    """The images of `PHANTOMS`, and where they come from."""
    cfg = compose(*PHANTOMS, config="evaluate").data
    section = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataSection), cfg))
    assert isinstance(section, DataSection)
    source = instantiate(cfg.source, _convert_="all")
    return source, partition(section, source, None).examples["test"]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, written: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    return path


# --- a run on other data ---


@pytest.fixture
def run(trained_run: TrainingSummary, tmp_path: Path) -> Path:
    """A copy of the shared run, to write into."""
    return Path(shutil.copytree(trained_run.folder, tmp_path / "run"))


def test_a_run_on_another_hospitals_images(evaluate: Callable[..., EvaluationSummary], run: Path) -> None:
    """In the labels of that data set: names under the labels that they fall under, and no places."""
    labels = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    rng = np.random.default_rng(0)
    root = run.parent / "vindr"
    (root / "train").mkdir(parents=True)
    for number, label in enumerate(("Cardiomegaly", "Nodule/Mass", "No finding")):
        box = ",,," if label == "No finding" else "10,10,30,30"
        labels += [f"image{number},{label},0,R{reader},{box}" for reader in (1, 2, 3)]
        pixels = rng.integers(0, 4096, size=(80, 60)).astype(np.uint16)
        Image.fromarray(pixels).save(root / "train" / f"image{number}.png")
    (root / "train.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")
    options = (f"data_root={root}", "data.num_workers=0", "metrics.bootstrap=0", "samples=2")
    done = evaluate(f"run={run}", "data=vindr", *options)
    assert done.folder == run / "evaluation" / "vindr"
    written = {row["image_id"]: row for row in rows(done.folder)}
    assert [finding["name"] for row in written.values() for finding in row["truth"]] == [
        "cardiomegaly", "nodule", "normal",
    ]  # fmt: skip
    known = {"cardiomegaly", "nodule", "normal", "pleural effusion", "calcified densities", "aortic elongation",
             "atelectasis", "consolidation", "pneumothorax", "interstitial pattern"}  # fmt: skip
    for row in written.values():
        assert row["predicted"] is None or {f["name"] for f in row["predicted"]} <= known
        assert row["predicted"] is None or not any(f["locations"] for f in row["predicted"])
        assert row["sampled"].keys() <= known
    assert "on vindr (test)" in (done.folder / "table.txt").read_text(encoding="utf-8")


def test_what_was_trained_on_is_refused_under_any_name(evaluate: Callable[..., EvaluationSummary], run: Path) -> None:
    with pytest.raises(UserError, match="were trained on"):
        evaluate(f"run={run}", *PHANTOMS, "data.source.patients=200", "data.source.seed=0", "data.max_images={}")


# --- predictions that are there ---


def test_own_predictions_are_scored_again_without_anything_else(
    evaluate: Callable[..., EvaluationSummary], trained_run: TrainingSummary
) -> None:
    assert trained_run.evaluation is not None
    before = trained_run.evaluation.folder
    done = evaluate(f"predictions={before}")
    assert json.loads((done.folder / "metrics.json").read_text()) == json.loads((before / "metrics.json").read_text())
    assert [row["text"] for row in rows(done.folder)] == [row["text"] for row in rows(before)]


def test_a_csv_of_reports_is_scored_on_a_data_set(
    evaluate: Callable[..., EvaluationSummary], phantoms: tuple[PhantomSource, list[Example]], tmp_path: Path
) -> None:
    file = tmp_path / "predictions.csv"
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["image_id", "text"])
        writer.writerows([example.image_id, write_report(example.findings)] for example in phantoms[1])
    done = evaluate(f"predictions={file}", *PHANTOMS)
    assert done.metrics.images == 8
    assert done.metrics.headline("exact_match_located") == 1


def test_predictions_in_other_words(
    evaluate: Callable[..., EvaluationSummary], phantoms: tuple[PhantomSource, list[Example]], tmp_path: Path
) -> None:
    """English, read by the form that the prompt names."""
    texts = [
        {"image_id": e.image_id, "text": "There is " + " and ".join(f.name for f in e.findings) + "."}
        for e in phantoms[1]
    ]
    file = write_rows(tmp_path / "predictions.jsonl", texts)
    assert evaluate(f"predictions={file}", "prompt=english_report", *PHANTOMS).metrics.headline("exact_match") == 1


def test_probabilities_of_any_origin_are_scored(
    evaluate: Callable[..., EvaluationSummary], phantoms: tuple[PhantomSource, list[Example]], tmp_path: Path
) -> None:
    texts = [
        {"image_id": e.image_id, "text": write_report(e.findings), "confidence": {f.name: 0.75 for f in e.findings}}
        for e in phantoms[1]
    ]
    file = write_rows(tmp_path / "predictions.jsonl", texts)
    found = evaluate(f"predictions={file}", *PHANTOMS, "metrics=confidence")
    assert found.metrics.headline("calibration_error") == pytest.approx(0.25)
    assert all(row["confidence"] == text["confidence"] for row, text in zip(rows(found.folder), texts, strict=True))


def test_samples_of_any_origin_are_scored(
    evaluate: Callable[..., EvaluationSummary], phantoms: tuple[PhantomSource, list[Example]], tmp_path: Path
) -> None:
    """Each true finding in three of four, one that cannot be read among them, and a false one in one of them."""
    texts = []
    for example in phantoms[1]:
        text = write_report(example.findings)
        more = write_report((*example.findings, Finding("goiter")))
        texts.append({"image_id": example.image_id, "text": text, "samples": [text, text, more, "babble"]})
    file = write_rows(tmp_path / "predictions.jsonl", texts)
    found = evaluate(f"predictions={file}", *PHANTOMS, "metrics=confidence")
    for row, example in zip(rows(found.folder), phantoms[1], strict=True):
        assert row["sampled"] == {f.name: 0.75 for f in example.findings} | {"goiter": 0.25}
    assert found.metrics.headline("calibration_error") == pytest.approx(0.25)


@pytest.mark.parametrize("convention", ["pixels", "MedGemma's"])
def test_boxes_of_any_origin_are_scored(
    evaluate: Callable[..., EvaluationSummary],
    phantoms: tuple[PhantomSource, list[Example]],
    tmp_path: Path,
    convention: str,
) -> None:
    source, examples = phantoms
    written = []
    for example in examples:
        boxes = []
        for box in source.boxes(example.image_id).boxes:
            shape = source.shape(example.image_id)
            thousandths = ImageBoxes.of([box.box], PIXELS, shape).to(MEDGEMMA).values[0].tolist()
            as_pixels = {"finding": box.finding, "box": list(box.box), "score": 0.5}
            boxes.append(as_pixels if convention == "pixels" else {"label": box.finding, "box_2d": thousandths})
        written.append({"image_id": example.image_id, "text": write_report(example.findings), "boxes": boxes})
    file = write_rows(tmp_path / "predictions.jsonl", written)
    found = evaluate(f"predictions={file}", *PHANTOMS, "metrics=localization").metrics
    best = {"mean_iou": 1, "mean_giou": 1, "pointing_accuracy": 1, "box_f1": 1, "map_30": 1, "map_50": 1}
    assert {name: found.headline(name) for name in best} == pytest.approx(best)


def test_images_without_prediction(
    evaluate: Callable[..., EvaluationSummary], phantoms: tuple[PhantomSource, list[Example]], tmp_path: Path
) -> None:
    texts = [{"image_id": e.image_id, "text": write_report(e.findings)} for e in phantoms[1][:6]]
    asked = (f"predictions={write_rows(tmp_path / 'predictions.jsonl', texts)}", *PHANTOMS)
    with pytest.raises(UserError, match="2 of the split's 8 images have no prediction"):
        evaluate(*asked)
    assert evaluate(*asked, "missing=wrong").metrics.headline("exact_match") == 0.75
    dropped = evaluate(*asked, "missing=drop", f"output_dir={tmp_path / 'dropped'}").metrics
    assert (dropped.images, dropped.headline("exact_match")) == (6, 1)


# --- a model that was never trained here ---


@pytest.mark.parametrize("prompt", ["english_report", "medgemma_boxes"])
def test_a_model_is_asked_as_it_is(
    evaluate: Callable[..., EvaluationSummary], phantoms: tuple[PhantomSource, list[Example]], prompt: str
) -> None:
    """The embedded model names findings in words of its own; of boxes it knows nothing, and its answers are counted."""
    done = evaluate(
        TINY,
        *PHANTOMS,
        f"prompt={prompt}",
        "prompt.max_new_tokens=40",
        "metrics=all",
        "batch_size=5",
        "accelerator=cpu",
    )
    written = rows(done.folder)
    assert [row["image_id"] for row in written] == [example.image_id for example in phantoms[1]]
    assert all(len(row["log_probs"]) == len(row["token_ids"]) <= 40 for row in written)
    assert "zero-shot" in (done.folder / "table.txt").read_text(encoding="utf-8")
    metrics = done.metrics
    if prompt == "english_report":
        assert metrics.headline("unparseable_rate") < 1
        assert np.isnan(metrics.headline("mean_iou"))
    else:
        assert metrics.headline("unparseable_rate") == 1
        assert (metrics.headline("mean_iou"), metrics.headline("pointing_accuracy")) == (0, 0)


def test_batches_and_quantisation_do_not_change_what_is_asked(
    evaluate: Callable[..., EvaluationSummary], tmp_path: Path
) -> None:
    few = (TINY, *PHANTOMS, "data.max_images={test: 2}", "prompt.max_new_tokens=4", "metrics=none", "samples=2")
    alone, together = evaluate(*few), evaluate(*few, "batch_size=2", f"output_dir={tmp_path / 'together'}")
    for key in ("token_ids", "samples"):
        assert [row[key] for row in rows(alone.folder)] == [row[key] for row in rows(together.folder)]
    packed = evaluate(*few, "quantization=nf4", f"output_dir={tmp_path / 'packed'}")
    assert len(rows(packed.folder)) == 2


WRONG = [
    (["run=a", "predictions=b"], "run and predictions"),
    ([TINY], "data is missing"),
    (["predictions=/no/such/file"], "/no/such/file"),
    (["predictions=b", "samples=2"], "samples are drawn by a model"),
    ([TINY, *PHANTOMS, "samples=-1"], "samples must be"),
    ([TINY, *PHANTOMS, "samples=2", "temperature=0"], "temperature must be"),
    ([TINY, *PHANTOMS, "samples=2", "seed=true"], "seed must be"),
    ([TINY, *PHANTOMS, "missing=ignore"], "missing must be"),
    ([TINY, *PHANTOMS, "attention=none"], "attention must be"),
    ([TINY, *PHANTOMS, "accelerator=tpu"], "accelerator must be"),
    ([TINY, *PHANTOMS, "prompt.text=''"], "prompt.text is empty"),
    ([TINY, *PHANTOMS, "prompt.max_new_tokens=0"], "prompt.max_new_tokens"),
    ([TINY, *PHANTOMS, "data_root=/data"], "has no folder"),
    ([TINY, *PHANTOMS, "split=validation"], "validation split is empty"),
    (["pretrained=/no/such/model", *PHANTOMS], "no such folder"),
    ([TINY, "data=vindr"], "VinDr-CXR folder"),
    ([TINY, "data=nih", "data_root=/no/such/folder"], "NIH ChestX-ray14 folder"),
]


def test_too_many_images_at_once_are_one_message(
    evaluate: Callable[..., EvaluationSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("xrayexp.training.generation.Writer.greedy", full)
    with pytest.raises(UserError, match="3 images asked about together: lower batch_size"):
        evaluate(TINY, *PHANTOMS, "batch_size=3")


@pytest.mark.parametrize("overrides, named", WRONG, ids=[named for _, named in WRONG])
def test_what_is_wrong_is_one_message(
    evaluate: Callable[..., EvaluationSummary],
    overrides: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VINDR_DIR", raising=False)
    with pytest.raises(UserError, match=named):
        evaluate(*overrides)


LINES = {
    "surrogates not allowed": {"image_id": "x", "text": "half of a \ud83d"},
    "no image_id": {"text": "x"},
    "neither a text nor": {"image_id": "x"},
    "no list of findings": {"image_id": "x", "predicted": [{"place": "left"}]},
    "confidence of 'mass' is a probability": {"image_id": "x", "text": "x", "confidence": {"mass": 2}},
    "no probability for each finding": {"image_id": "x", "text": "x", "confidence": 0.5},
    "no list of texts": {"image_id": "x", "text": "x", "samples": "x"},
    "no list of boxes": {"image_id": "x", "text": "x", "boxes": "left"},
    "none of its 1 image_ids": {"image_id": "x", "text": "x"},
}


@pytest.mark.parametrize("named, line", LINES.items(), ids=LINES)
def test_a_wrong_line_is_named(
    evaluate: Callable[..., EvaluationSummary], tmp_path: Path, named: str, line: dict[str, Any]
) -> None:
    file = write_rows(tmp_path / "predictions.jsonl", [line])
    with pytest.raises(UserError, match=named):
        evaluate(f"predictions={file}", *PHANTOMS)


def test_a_wrong_box_is_named(
    evaluate: Callable[..., EvaluationSummary], phantoms: tuple[PhantomSource, list[Example]], tmp_path: Path
) -> None:
    texts = [
        {"image_id": e.image_id, "text": "", "boxes": [{"finding": "nodule", "box": [3, 3, 1, 1]}]} for e in phantoms[1]
    ]
    with pytest.raises(UserError, match="y0 < y1"):
        evaluate(f"predictions={write_rows(tmp_path / 'predictions.jsonl', texts)}", *PHANTOMS)


def test_a_test_set_is_not_trained_on(compose: Compose) -> None:
    with pytest.raises(UserError, match="test set"):
        pipeline.train(compose("data=vindr"))


def test_nothing_is_overwritten(evaluate: Callable[..., EvaluationSummary], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        evaluate(TINY, *PHANTOMS)
