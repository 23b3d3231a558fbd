"""What the localisation metrics count of each image, so that they are formulas on sums, as all others of this room.

Boxes are compared within one image and one finding. Where a finding is

* true with boxes and predicted with boxes, boxes are paired;
* true with boxes and not predicted, each of its boxes is missed;
* predicted and not true, each of its boxes is a false one;
* neither, there is nothing to count: a healthy image adds only what is wrongly put on it;
* true, but was given no box by the readers (`unboxed`), its predicted boxes are left out: nobody knows where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.data.overlap import Floats, best_pairs, generalised_iou, iou

THRESHOLDS = (0.3, 0.5)
NO_BOXES = "no image has true boxes and an answer of a form that draws some"
LEVELS = 100  # scores are compared in hundredths


@dataclass(frozen=True, slots=True)
class FindingCounts:
    """What is counted of one finding of one image.

    Attributes:
        true: its true boxes.
        named: score, in hundredths, of each predicted box.
        correct: by threshold, whether each predicted box is on a true one, as average precision counts it.
        iou: sum over the pairs with the largest sum of IoU.
        giou: likewise of the generalised IoU; -1 for every box that has no partner.
        pointed: share of the surest boxes whose centre lies in a true box; 0 when there is no box at all.
    """

    true: int
    named: tuple[int, ...]
    correct: Mapping[float, tuple[bool, ...]]
    iou: float
    giou: float
    pointed: float

    @property
    def slots(self) -> int:
        """Pairs and boxes without partner."""
        return max(self.true, len(self.named))


def count_boxes(truth: TrueBoxes, predicted: Sequence[FindingBox]) -> dict[str, FindingCounts]:
    """What is counted of an image, by finding.

    Args:
        truth: the readers' boxes, in the file's pixels.
        predicted: the model's; none where its answer could not be read.
    """
    drawn = [box for box in predicted if box.finding not in truth.unboxed]
    names = dict.fromkeys(box.finding for box in (*truth.boxes, *drawn))
    return {
        name: _count([b for b in truth.boxes if b.finding == name], [b for b in drawn if b.finding == name])
        for name in names
    }


def _count(truth: Sequence[FindingBox], predicted: Sequence[FindingBox]) -> FindingCounts:
    # Sorted, so that ties are decided the same way in whatever order boxes come.
    truth, predicted = (sorted(boxes, key=lambda box: (-box.score, box.box)) for boxes in (truth, predicted))
    levels = tuple(round(LEVELS * box.score) for box in predicted)
    if not truth or not predicted:
        missed = dict.fromkeys(THRESHOLDS, (False,) * len(predicted))
        alone = max(len(truth), len(predicted))
        return FindingCounts(len(truth), levels, missed, iou=0.0, giou=-float(alone), pointed=0.0)
    drawn, true = _array(predicted), _array(truth)
    overlaps, generalised = iou(drawn, true), generalised_iou(drawn, true)
    unpaired = abs(len(truth) - len(predicted))
    return FindingCounts(
        true=len(truth),
        named=levels,
        correct={threshold: _correct(overlaps, levels, threshold) for threshold in THRESHOLDS},
        iou=float(overlaps[best_pairs(overlaps)].sum()),
        giou=float(generalised[best_pairs(generalised)].sum()) - unpaired,
        pointed=_pointed(drawn[np.array(levels) == max(levels)], true),
    )


def _correct(overlaps: Floats, levels: Sequence[int], threshold: float) -> tuple[bool, ...]:
    """Whether each predicted box is on a true one that no surer box has taken; `overlaps` is [predicted, true].

    As COCO does it, but boxes of equal score are paired together, so that their order does not matter.
    """
    correct, free = np.zeros(len(levels), dtype=bool), np.ones(overlaps.shape[1], dtype=bool)
    for level in sorted(set(levels), reverse=True):
        rows, columns = np.flatnonzero(np.array(levels) == level), np.flatnonzero(free)
        part = overlaps[np.ix_(rows, columns)]
        good = part >= threshold
        # One more pair over the threshold is worth more than any overlap.
        left, right = best_pairs(np.where(good, 1 + len(rows) + part, 0.0))
        hits = good[left, right]
        correct[rows[left[hits]]] = True
        free[columns[right[hits]]] = False
    return tuple(bool(one) for one in correct)


def _pointed(surest: Floats, true: Floats) -> float:
    """The share of boxes whose centre lies in a true box; [boxes, 4] each."""
    centres = (surest[:, None, :2] + surest[:, None, 2:]) / 2  # [surest, 1, y and x]
    inside = np.logical_and(centres >= true[None, :, :2], centres <= true[None, :, 2:])  # [surest, true, y and x]
    return float(np.mean(np.any(np.all(inside, axis=-1), axis=-1)))


def _array(boxes: Sequence[FindingBox]) -> Floats:
    return np.array([box.box for box in boxes], dtype=np.float64)
