"""Predictions are written so that they can be scored again, and gathered from any number of processes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from tests.metrics.report_cases import pair, random_reports
from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.errors import DataError
from xrayexp.metrics.collected import CollectedReports
from xrayexp.metrics.predictions import finding_boxes, prediction_row, read_predictions
from xrayexp.metrics.samples import ScoredReport

BABBLE = replace(pair("nódulo @ä, b", None, image='"quoted"'), predicted_text="a\u2028line\u0085break\n\r\x0c")
REPORTS = [*random_reports(12, 5, findings=4), BABBLE]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    rows = [prediction_row(report) | {"token_ids": [1, 2]} for report in REPORTS]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert read_predictions(file) == REPORTS


def test_shares_of_samples_are_read_back(tmp_path: Path) -> None:
    """None drawn is something else than nothing named."""
    file = tmp_path / "predictions.jsonl"
    for sampled in (None, {}, {"mass": 0.25}):
        file.write_text(json.dumps(prediction_row(replace(REPORTS[0], sampled=sampled))))
        assert read_predictions(file)[0].sampled == sampled


def test_boxes_are_read_back_as_they_were(tmp_path: Path) -> None:
    """Even a sliver that was left at the image's edge."""
    boxes = (FindingBox("nodule", (0.0, 1 / 3, 0.004, 7.1), 0.5),)
    report = replace(REPORTS[0], true_boxes=TrueBoxes(boxes[:0], frozenset({"mass"})), predicted_boxes=boxes)
    file = tmp_path / "predictions.jsonl"
    file.write_text(json.dumps(prediction_row(report)))
    assert read_predictions(file) == [report]


@pytest.mark.parametrize("values", [{"box": [0, 0, 1e999, 1]}, {"box": [0, 0, 1, 1], "score": math.nan}])
def test_boxes_without_end_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="finite"):
        finding_boxes([{"finding": "nodule"} | values])


def test_an_image_stands_once_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text(2 * f"{json.dumps(prediction_row(REPORTS[0]))}\n")
    with pytest.raises(DataError, match=f"line 2: image {REPORTS[0].image_id} has a prediction already"):
        read_predictions(file)


def test_lines_of_earlier_versions_have_no_true_text(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    row = prediction_row(REPORTS[1])
    del row["truth_text"]
    file.write_text(json.dumps(row))
    [report] = read_predictions(file)
    assert report.truth_text == ""
    assert report.truth == REPORTS[1].truth


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"truth": 1, "predicted": null}'])
def test_a_line_that_is_no_prediction_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text(f"{json.dumps(prediction_row(REPORTS[0]))}\n{line}\n")
    with pytest.raises(DataError, match=r"predictions\.jsonl, line 2: is no prediction"):
        read_predictions(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "nowhere.jsonl")


def collected(*batches: list[ScoredReport], **options: Any) -> CollectedReports:
    metric = CollectedReports(**options)
    for batch in batches:
        metric.update(batch)
    return metric


def test_batches_are_collected_and_forgotten() -> None:
    metric = collected(REPORTS[:5], [], REPORTS[5:])
    assert metric.reports() == REPORTS
    metric.reset()
    metric.update([])
    assert metric.reports() == []


def gathered(ranks: list[CollectedReports]) -> Callable[..., list[torch.Tensor]]:
    """What torch.distributed would gather: the state of every process."""

    def gather(state: torch.Tensor, group: object = None) -> list[torch.Tensor]:
        return [torch.cat(rank.lines) for rank in ranks]

    return gather


def test_the_reports_of_all_processes_are_gathered_and_padding_counts_once() -> None:
    """A distributed sampler hands out 13 images as 7 and 7: the first one again at the end."""
    shares = [REPORTS[::2], [*REPORTS[1::2], REPORTS[0]]]
    assert [len(share) for share in shares] == [7, 7]
    ranks = [collected(share[:3], share[3:]) for share in shares]
    first = collected(shares[0], dist_sync_fn=gathered(ranks), distributed_available_fn=lambda: True)
    found = first.reports()
    assert len(found) == 13
    assert {report.image_id: report for report in found} == {report.image_id: report for report in REPORTS}


def _evaluate(rank: int, meeting: str, out: str) -> None:
    """One of two processes: its half of the images, scored with the other's."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    share = [REPORTS[::2], [*REPORTS[1::2], REPORTS[0]]][rank]
    found = collected(share[:3], share[3:]).reports()
    Path(out, f"{rank}").write_text(json.dumps([report.image_id for report in found]))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_both_have_all_reports(tmp_path: Path) -> None:
    spawn(_evaluate, (str(tmp_path / "meeting"), str(tmp_path)), nprocs=2)
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}").read_text())
        assert sorted(found) == sorted(report.image_id for report in REPORTS)
