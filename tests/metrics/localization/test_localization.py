"""The localisation metrics: their invariants, COCO's own mean average precision, and intervals by patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.data.report import Finding, Report
from xrayexp.metrics.predictions import prediction_row, scored_report
from xrayexp.metrics.registry import metrics_of
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import score

METRICS = metrics_of("localization")
DEFINITIONS = [definition for metric in METRICS for definition in metric.definitions]
NAMES = ("cardiomegaly", "nodule", "pneumothorax")
NOTHING = Report((Finding("normal"),))
Boxes = tuple[FindingBox, ...]


def random_box(rng: np.random.Generator, score: float = 1.0) -> FindingBox:
    y, x, height, width = rng.uniform(5, 50, size=4)
    return FindingBox(str(rng.choice(NAMES)), (y, x, y + height, x + width), score)


def near(rng: np.random.Generator, box: FindingBox, score: float) -> FindingBox:
    y0, x0, y1, x1 = np.array(box.box) + rng.normal(0, 4, size=4)
    return FindingBox(box.finding, (y0, x0, max(y1, y0 + 1), max(x1, x0 + 1)), score)


def report(number: int, truth: Boxes, drawn: Boxes | None, patient: str | None = None) -> ScoredReport:
    return ScoredReport(
        image_id=f"{number}.png", patient_id=patient or f"p{number}", truth=NOTHING, predicted=NOTHING,
        true_boxes=TrueBoxes(truth), predicted_boxes=drawn,
    )  # fmt: skip


def reports(images: int = 40, seed: int = 0) -> list[ScoredReport]:
    """Images with none to three boxes, of which the model finds most and invents some."""
    rng = np.random.default_rng(seed)
    made = []
    scores = rng.permutation(101) / 100
    for number in range(images):
        truth = tuple(random_box(rng) for _ in range(rng.integers(0, 4)))
        drawn = [near(rng, box, 0) for box in truth if rng.random() < 0.7]
        drawn += [random_box(rng) for _ in range(rng.integers(0, 2))]
        made.append((number, truth, drawn))
    given = iter(scores)
    return [report(n, truth, tuple(replace(box, score=next(given)) for box in drawn)) for n, truth, drawn in made]


def values(scored: Sequence[ScoredReport]) -> dict[str, float]:
    found = score(scored, METRICS, bootstrap=0)
    assert found.left_out == ()
    return {name: estimate.value for name, estimate in found.estimates.items()}


def coco(scored: Sequence[ScoredReport], threshold: float) -> float:
    """pycocotools' mean average precision."""

    def entry(number: int, place: int, box: FindingBox) -> dict[str, object]:
        y0, x0, y1, x1 = box.box
        size = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
        about = {"id": 1000 * number + place + 1, "image_id": number, "category_id": NAMES.index(box.finding)}
        return {**size, **about, "iscrowd": 0, "score": box.score}

    truth, drawn = COCO(), COCO()
    for side, boxes in ((truth, "true_boxes"), (drawn, "predicted_boxes")):
        of_image = [getattr(r, boxes) for r in scored]
        listed = [one.boxes if isinstance(one, TrueBoxes) else one for one in of_image]
        side.dataset = {
            "images": [{"id": n} for n in range(len(scored))],
            "categories": [{"id": n} for n in range(len(NAMES))],
            "annotations": [entry(n, p, box) for n, each in enumerate(listed) for p, box in enumerate(each)],
        }
        side.createIndex()
    evaluation = COCOeval(truth, drawn, "bbox")
    evaluation.params.iouThrs = np.array([threshold])
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, 2]  # [recalls, categories], all areas, 100 boxes
    return float(precision[precision > -1].mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_mean_average_precision_is_cocos(seed: int, threshold: float) -> None:
    scored = reports(seed=seed)
    assert 0.2 < coco(scored, threshold) < 0.95
    assert values(scored)[f"map_{round(100 * threshold)}"] == pytest.approx(coco(scored, threshold), abs=1e-9)


def test_without_scores_average_precision_does_not_depend_on_the_order() -> None:
    nodule = FindingBox("nodule", (0, 0, 10, 10))
    far = FindingBox("nodule", (50, 50, 60, 60))
    scored = [report(0, (nodule,), (nodule,)), report(1, (nodule,), (far,)), report(2, (nodule,), ())]
    # One of two boxes is right, and one of three is found: 34 of the 101 recalls are reached.
    assert values(scored)["map_50"] == values(scored[::-1])["map_50"] == pytest.approx(0.5 * 34 / 101)


def test_more_and_worse_boxes_score_less() -> None:
    """What `tests/metrics/test_invariants.py` does not know of boxes: those of the right finding in the wrong place."""
    scored = reports()
    perfect = values([replace(r, predicted_boxes=r.true_boxes.boxes if r.true_boxes else ()) for r in scored])
    assert perfect == pytest.approx({definition.name: definition.best for definition in DEFINITIONS})
    elsewhere = FindingBox("nodule", (500, 500, 510, 510))
    wrong, middle = values([replace(r, predicted_boxes=(elsewhere,)) for r in scored]), values(scored)
    assert all(wrong[name] < middle[name] < best for name, best in perfect.items())


def test_intervals_are_by_patient() -> None:
    """As many images of one patient as one likes do not narrow them."""
    once = [replace(r, patient_id=f"p{n % 10}") for n, r in enumerate(reports())]
    twice = [*once, *(replace(r, image_id=f"again {r.image_id}") for r in once)]
    [narrow, wide] = [score(r, METRICS, bootstrap=300, seed=1) for r in (twice, once)]
    for definition in DEFINITIONS:
        a, b = narrow.estimates[definition.name], wide.estimates[definition.name]
        assert a.low < a.value < a.high
        if definition.name != "map_30":  # two boxes of one score enter together
            assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.02)


def test_no_boxes_have_no_value() -> None:
    without: list[Scores] = [
        score([replace(report(0, (), ()), true_boxes=None)], METRICS),
        score([report(0, (random_box(np.random.default_rng(0)),), None)], METRICS),
    ]
    for found in without:
        assert all(math.isnan(estimate.value) and estimate.reason for estimate in found.estimates.values())


def test_boxes_survive_predictions_jsonl() -> None:
    for scored in reports(5):
        back = scored_report(prediction_row(scored))
        assert back.true_boxes == scored.true_boxes
        assert back.predicted_boxes is not None
        assert [(b.finding, b.score) for b in back.predicted_boxes] == [
            (b.finding, b.score) for b in scored.predicted_boxes or ()
        ]
        for box, other in zip(back.predicted_boxes, scored.predicted_boxes or (), strict=True):
            assert box.box == pytest.approx(other.box, abs=0.006)
    plain = ScoredReport(image_id="a", patient_id="b", truth=NOTHING, predicted=None)
    assert scored_report(prediction_row(plain)) == plain
