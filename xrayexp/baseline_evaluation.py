"""A run beside its baselines: all on the same images, fitted on its training split, in one table."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
from hydra.utils import instantiate

from xrayexp.baselines.base import Asked, Image, Training
from xrayexp.checks import require
from xrayexp.data.examples import finding_shares
from xrayexp.data.partition import TRAIN, VALIDATION, check_not_trained_on, partition
from xrayexp.data.preprocessing import preprocess
from xrayexp.data.report import Report, write_report
from xrayexp.errors import DataError
from xrayexp.evaluation import PREDICTIONS, write_scores
from xrayexp.metrics.predictions import prediction_row, read_predictions
from xrayexp.resume import config_of, moved, on_other_data
from xrayexp.run_data import judge
from xrayexp.settings import Settings
from xrayexp.tracking.baseline_table import BaselineTable

if TYPE_CHECKING:
    from pathlib import Path

    from xrayexp.baselines.base import Baseline
    from xrayexp.data.config import DataSection
    from xrayexp.data.examples import Example, Source
    from xrayexp.evaluation_request import Request
    from xrayexp.metrics.samples import ScoredReport
    from xrayexp.metrics.scores import Scores
    from xrayexp.tracking.run_folder import RunFolder
    from xrayexp.tracking.summary import EvaluationSummary
    from xrayexp.training.judging import Judge

log = logging.getLogger(__name__)

BASE_MODEL = "none"  # the checkpoint


def beside_baselines(request: Request, run: RunFolder, evaluate: Callable[[str], EvaluationSummary]) -> BaselineTable:
    """Scores a run and its baselines.

    What the run's checkpoint and the base model have said already, of all images, is not asked again.

    Args:
        request: with `baseline`.
        run: the run.
        evaluate: asks a checkpoint of the run and writes what it says.

    Raises:
        UserError: for whatever the user can fix, before anything slow wherever possible.
    """
    assert request.baseline is not None
    setting, baselines = _Setting.of(request, run), request.baseline.made()
    for baseline in baselines.values():
        baseline.check(setting.training, setting.asked(setting.examples))
    names = {request.checkpoint: f"run ({request.checkpoint})"}
    if request.baseline.base_model:
        names.setdefault(BASE_MODEL, "base model")
    said = {name: _said(request, run, checkpoint, evaluate) for checkpoint, name in names.items()}
    common = set.intersection(*({report.image_id for report in reports} for reports in said.values()))
    asked = [example for example in setting.examples if example.image_id in common]
    scores = {
        name: request.metrics.score([report for report in reports if report.image_id in common], setting.shares)
        for name, reports in said.items()
    }
    for name, baseline in baselines.items():
        scores[name] = _baseline_scores(request, run, name, baseline, setting, asked)
    subject = f"{run.path} and its baselines, on {request.asked}"
    table = BaselineTable(run.evaluation(request.asked, "baselines"), subject, scores)
    table.write()
    return table


def _said(
    request: Request, run: RunFolder, checkpoint: str, evaluate: Callable[[str], EvaluationSummary]
) -> list[ScoredReport]:
    folder = run.evaluation(request.asked, checkpoint)
    # The scores are written when everything has been said. What was drawn before may have been drawn otherwise.
    if request.sampling is None and (folder / "metrics.json").exists() and (folder / PREDICTIONS[0]).exists():
        log.info("checkpoint %s: as it answered before (%s)", checkpoint, folder)
    else:
        evaluate(checkpoint)
    return read_predictions(folder / PREDICTIONS[0])


@dataclass(frozen=True)
class _Setting:
    """What baselines learn from and what they are asked about."""

    training: Training
    image: Image
    examples: Sequence[Example]
    judge: Judge
    shares: Mapping[str, float]
    data: str

    def asked(self, examples: Sequence[Example]) -> Asked:
        """Some of the examples without their truth."""
        return Asked(tuple(example.image_id for example in examples), self.image, self.data)

    @classmethod
    def of(cls, request: Request, run: RunFolder) -> _Setting:
        """The training split of the run without synthetic images, and what the request asks about.

        Raises:
            UserError: files are missing, or the images are not those that the run was trained with.
        """
        data_root = request.data_root if request.data is None else None
        own = Settings.from_config(moved(config_of(run), data_root=data_root)).data
        source, examples = _read(own)
        training = Training(examples[TRAIN], _image(source, own), examples[VALIDATION])
        if not training.examples:
            raise DataError(f"data={own.name} has no training split: there is nothing to make a baseline of")
        if request.data is not None:
            own = Settings.from_config(on_other_data(config_of(run), request.data[1])).data
            source, examples = _read(own)
        asked = examples[request.split]
        if run.splits_file.exists():
            check_not_trained_on(pd.read_parquet(run.splits_file), asked, request.split)
        shares = finding_shares(training.examples)
        return cls(training, _image(source, own), asked, judge(source, own), shares, own.name)


def _read(section: DataSection) -> tuple[Source, dict[str, list[Example]]]:
    if section.requires is not None:
        require([instantiate(section.requires)])
    source = instantiate(section.source, _convert_="all")
    return source, partition(section, source, None).examples


def _image(source: Source, section: DataSection) -> Image:
    return lambda image_id: preprocess(source.image(image_id), section.preprocessing)[0]


def _baseline_scores(
    request: Request, run: RunFolder, name: str, baseline: Baseline, setting: _Setting, asked: Sequence[Example]
) -> Scores:
    """Asks a baseline, and writes what it says and how that scores as for a checkpoint of the run."""
    folder = run.evaluation(request.asked, name)
    example_of = {example.image_id: example for example in asked}
    answers = baseline.answers(setting.training, setting.asked(asked))
    reports = [_judged(setting.judge, example_of[image_id], report) for image_id, report in answers]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / PREDICTIONS[0], reports)
    about = {"folder": folder, "split": request.split, "checkpoint": name, "subject": f"{name} on {request.asked}"}
    return write_scores(reports, request.metrics, about, setting.shares).metrics


def _judged(judge: Judge, example: Example, report: Report) -> ScoredReport:
    """The report beside its truth, with its text, which some metrics read."""
    return replace(judge.stated(example, report), predicted_text=write_report(report.findings))


def _write(file: Path, reports: Sequence[ScoredReport]) -> None:
    lines = (json.dumps(prediction_row(report), ensure_ascii=False) + "\n" for report in reports)
    file.write_text("".join(lines), encoding="utf-8")
