"""Scores answers about a data set: those of a file, or those of a model that was never trained here."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from xrayexp.checks import require
from xrayexp.data.box_answers import parse_box_answer
from xrayexp.data.partition import partition
from xrayexp.data.preprocessing import preprocess
from xrayexp.data.quarantine import QUARANTINE, Quarantine
from xrayexp.errors import ConfigError, DataError
from xrayexp.metrics.predictions import confidence_of, finding_boxes, prediction_row, read_predictions, report_of
from xrayexp.progress import watch
from xrayexp.tracking.evaluated import training_shares_of
from xrayexp.tracking.run_folder import write_json
from xrayexp.tracking.summary import EvaluationSummary, plain_text
from xrayexp.training.judging import Judge

if TYPE_CHECKING:
    from xrayexp.data.config import DataSection
    from xrayexp.data.examples import Example, Source
    from xrayexp.data.report import Report
    from xrayexp.evaluation_request import Request
    from xrayexp.metrics.config import MetricsSection
    from xrayexp.metrics.samples import ScoredReport
    from xrayexp.training.generation import Generated

log = logging.getLogger(__name__)

PREDICTIONS = ("predictions.jsonl", "predictions.csv")


def write_scores(
    reports: Sequence[ScoredReport],
    section: MetricsSection,
    summary: Mapping[str, Any],
    training_shares: Mapping[str, float] | None = None,
) -> EvaluationSummary:
    """Scores predictions and writes metrics.json and the table.

    Args:
        reports: one per image.
        section: which metrics.
        summary: arguments of the `EvaluationSummary` beside the metrics.
        training_shares: share of the training images in which each finding is true; None when it is not known.
    """
    scores = section.score(reports, training_shares)
    done = EvaluationSummary(metrics=scores, **summary)
    write_json(done.folder / "metrics.json", scores.to_json())
    (done.folder / "table.txt").write_text(plain_text(done), encoding="utf-8")
    return done


@dataclass(frozen=True)
class TestData:
    """The images that are asked about, and how answers about them are judged."""

    __test__ = False  # for pytest, which would collect it by its name
    section: DataSection
    source: Source
    examples: tuple[Example, ...]
    judge: Judge

    @classmethod
    def of(cls, request: Request) -> TestData:
        """The split of a request's data set.

        Raises:
            UserError: its files are missing, or the split is empty.
        """
        assert request.data is not None
        section, _ = request.data
        if section.requires is not None:
            require([instantiate(section.requires)])
        source = instantiate(section.source, _convert_="all")
        parts = partition(section, source, None)
        examples = tuple(parts.examples[request.split])
        if not examples:
            raise DataError(f"data={section.name}: the {request.split} split is empty")
        names = sorted({finding.name for each in parts.examples.values() for e in each for finding in e.findings})
        form = instantiate(request.prompt.form, _convert_="all")
        return cls(section, source, examples, Judge(source, form, section.preprocessing, names))


def evaluate_predictions(request: Request) -> EvaluationSummary:
    """Scores a file of predictions.

    Without a data set, the truth is that of the file, as evaluate.py itself writes it, and metrics.json beside it, if
    there is one, says how frequent findings are in training. With a data set, every line needs an image_id, and a text
    that is read in the form of the prompt (or, as in this project's own files, `predicted`); `boxes` are optional.

    Raises:
        UserError: for whatever the user can fix.
    """
    assert request.predictions is not None
    file, shares = predictions_file(request.predictions), None
    if request.data is None:
        reports, shares = read_predictions(file), training_shares_of(file.parent)
        if not reports:
            raise DataError(f"{file} holds no prediction")
    else:
        reports = list(_judged(TestData.of(request), _read_answers(file), request.missing, file))
    folder = _new_folder(request.output_dir)
    _write_rows(folder, (prediction_row(report) for report in reports))
    subject = f"{file} on {'its own truth' if request.data is None else f'{request.data[0].name} ({request.split})'}"
    about = {"folder": folder, "split": request.split, "checkpoint": "none", "subject": subject}
    return write_scores(reports, request.metrics, about, shares)


def predictions_file(path: Path) -> Path:
    """The file of predictions that a path names, itself or in its folder.

    Raises:
        DataError: there is none.
    """
    found = [path] if path.is_file() else [path / name for name in PREDICTIONS if (path / name).is_file()]
    if not found:
        raise DataError(f"predictions={path}: neither a file nor a folder with {' or '.join(PREDICTIONS)}")
    return found[0]


def evaluate_model(request: Request) -> EvaluationSummary:
    """Asks a model that was not trained here about every image of a split, and scores its answers.

    Raises:
        UserError: for whatever the user can fix, before anything slow wherever possible.
    """
    from xrayexp.models.checks import weights

    assert request.pretrained is not None
    require([weights(request.pretrained)])
    data = TestData.of(request)
    folder = _new_folder(request.output_dir)
    quarantine = Quarantine({request.split: len(data.examples)}, data.section.max_broken_fraction, folder / QUARANTINE)
    asked = _asked(request, data, quarantine)
    reports = []

    def rows() -> Iterator[dict[str, Any]]:
        for report, answer in watch("answers", asked, len(data.examples)):
            reports.append(report)
            yield prediction_row(report) | answer.to_row()

    _write_rows(folder, rows())
    subject = f"{request.pretrained}, zero-shot, prompt={request.prompt.name}, on {data.section.name} ({request.split})"
    about = {"folder": folder, "split": request.split, "checkpoint": "none", "subject": subject}
    return write_scores(reports, request.metrics, about | {"broken_images": quarantine.count(request.split)})


def _new_folder(folder: Path) -> Path:
    """An empty folder.

    Raises:
        ConfigError: it holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError([f"output_dir={folder} is not empty: choose another folder"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _asked(request: Request, data: TestData, quarantine: Quarantine) -> Iterator[tuple[ScoredReport, Generated]]:
    """The answers as they come; images that cannot be read are left out."""
    import torch

    from xrayexp.models.loading import load_model, load_processor
    from xrayexp.training.checks import accelerator
    from xrayexp.training.zero_shot import Asker

    wanted = request.accelerator or ("gpu" if torch.cuda.is_available() else "cpu")
    require([accelerator(wanted)])
    assert request.pretrained is not None
    config = request.quantization.config
    model = load_model(
        request.pretrained,
        quantization=None if config is None else instantiate(config),
        dtype=torch.bfloat16 if wanted == "gpu" else torch.float32,
        device=torch.device("cuda", 0) if wanted == "gpu" else torch.device("cpu"),
        attention=request.attention,
    ).eval()
    question = request.prompt.asked(data.judge.names)
    limit = request.prompt.max_new_tokens
    asker = Asker(model, load_processor(request.pretrained), question, limit, request.sampling)
    size = request.batch_size or 1
    for start in range(0, len(data.examples), size):
        readable = list(_images(data, data.examples[start : start + size], request.split, quarantine))
        if readable:
            answers = asker.ask([image for _, image in readable], [example.image_id for example, _ in readable])
            for (example, _), answer in zip(readable, answers, strict=True):
                yield data.judge.answered(example, answer), answer


def _images(
    data: TestData, examples: Sequence[Example], split: str, quarantine: Quarantine
) -> Iterator[tuple[Example, Any]]:
    from xrayexp.data.collate import BrokenImage

    for example in examples:
        try:
            image, _ = preprocess(data.source.image(example.image_id), data.section.preprocessing)
        except DataError as error:
            quarantine.add(split, [BrokenImage(example.image_id, str(error))])
            continue
        yield example, image


@dataclass(frozen=True)
class _Answer:
    """What a line of a file of predictions says: its text, or a report that was read already, and what is beside it."""

    text: str
    report: Report | None
    boxes: Sequence[Mapping[str, Any]] | None
    has_text: bool
    confidence: Mapping[str, float] | None = None
    samples: Sequence[str] = ()


def _read_answers(file: Path) -> dict[str, _Answer]:
    """The lines of a file of predictions, by image.

    Raises:
        DataError: it cannot be read, a line is no prediction, or an image stands there twice.
    """
    found: dict[str, _Answer] = {}
    for number, row in enumerate(_rows(file), start=1):
        where = f"{file}, prediction {number}"
        if not isinstance(row, dict) or not isinstance(row.get("image_id"), str):
            raise DataError(f"{where}: has no image_id")
        text, stated = row.get("text"), row.get("predicted")
        if not isinstance(text, str) and "predicted" not in row:
            raise DataError(f"{where}: has neither a text nor findings that were predicted")
        if row["image_id"] in found:
            raise DataError(f"{where}: image {row['image_id']} has a prediction already")
        try:
            report = None if stated is None else report_of(stated)
        except (KeyError, TypeError) as error:
            raise DataError(f"{where}: `predicted` is no list of findings with name and locations") from error
        boxes = row.get("boxes")
        if boxes is not None and not (isinstance(boxes, list) and all(isinstance(box, dict) for box in boxes)):
            raise DataError(f"{where}: `boxes` is no list of boxes")
        try:
            confidence = None if row.get("confidence") is None else confidence_of(row["confidence"])
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{where}: `confidence` is no probability for each finding ({error})") from error
        samples = row.get("samples") or ()
        if isinstance(samples, str) or not all(isinstance(sample, str) for sample in samples):
            raise DataError(f"{where}: `samples` is no list of texts")
        written = text if isinstance(text, str) else None
        found[row["image_id"]] = _Answer(written or "", report, boxes, written is not None, confidence, samples)
    if not found:
        raise DataError(f"{file} holds no prediction")
    return found


def _rows(file: Path) -> Iterator[Any]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix == ".csv":
                yield from csv.DictReader(lines)
            else:
                yield from (_storable(json.loads(line)) for line in lines if line.strip())
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as predictions ({error}): expected JSON lines, or a .csv") from error


def _storable(row: Any) -> Any:
    """A row that can be written again: JSON may hold halves of characters, which no file can."""
    json.dumps(row, ensure_ascii=False).encode()
    return row


def _judged(data: TestData, answers: Mapping[str, _Answer], policy: str, file: Path) -> Iterator[ScoredReport]:
    """Every image of the split with its prediction."""
    without = [example.image_id for example in data.examples if example.image_id not in answers]
    if len(without) == len(data.examples):
        raise DataError(
            f"{file}: none of its {len(answers)} image_ids is in the split, such as {next(iter(answers))}; the split "
            f"holds {data.examples[0].image_id}"
        )
    if without and policy == "refuse":
        raise DataError(
            f"{file}: {len(without)} of the split's {len(data.examples)} images have no prediction, one of them "
            f"{without[0]}: missing=wrong counts them as unparseable, missing=drop leaves them out"
        )
    if without:
        log.warning("%s of %s images have no prediction (missing=%s)", len(without), len(data.examples), policy)
    for example in data.examples:
        answer = answers.get(example.image_id)
        if answer is not None:
            yield _scored(data.judge, example, answer, file)
        elif policy == "wrong":
            yield _scored(data.judge, example, _Answer("", None, None, has_text=False), file)


def _scored(judge: Judge, example: Example, answer: _Answer, file: Path) -> ScoredReport:
    scored = judge.scored(example, answer.text) if answer.has_text else judge.stated(example, answer.report)
    if answer.confidence is not None:
        scored = judge.with_confidence(scored, answer.confidence)
    if answer.samples:
        scored = judge.with_samples(scored, example, answer.samples)
    if answer.boxes is None:
        return scored
    try:
        drawn = finding_boxes([box for box in answer.boxes if "box_2d" not in box])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}, image {example.image_id}: {type(error).__name__} in its boxes: {error}") from error
    # MedGemma's own, whose numbers refer to the square that it saw.
    written = [box for box in answer.boxes if "box_2d" in box]
    return judge.with_boxes(scored, example, (*drawn, *judge.pixels(parse_box_answer(json.dumps(written)), example)))


def _write_rows(folder: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Writes predictions.jsonl line by line, so that what was answered is kept whatever happens."""
    with (folder / PREDICTIONS[0]).open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
