"""What is counted of the boxes of one image: by hand, in any order, and against COCO's own evaluation."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.boxes import FindingBox, TrueBoxes
from xrayexp.metrics.localization.counts import FindingCounts, count_boxes

NODULE = FindingBox("nodule", (0, 0, 10, 10))
HALF = FindingBox("nodule", (0, 0, 10, 5))
FAR = FindingBox("nodule", (50, 50, 60, 60))


def counted(truth: list[FindingBox], predicted: list[FindingBox]) -> FindingCounts:
    [(_, counts)] = count_boxes(TrueBoxes(tuple(truth)), predicted).items()
    return counts


def test_a_pair() -> None:
    counts = counted([NODULE], [HALF])
    assert (counts.true, counts.named, counts.slots, counts.iou, counts.giou) == (1, (100,), 1, 0.5, 0.5)
    assert counts.correct == {0.3: (True,), 0.5: (True,)}
    assert counts.pointed == 1


def test_one_more_than_there_are() -> None:
    counts = counted([NODULE], [FAR, NODULE])
    assert (counts.true, counts.slots, counts.iou, counts.giou) == (1, 2, 1, 0)  # 1 for the pair, -1 for the other
    assert counts.correct[0.5] == (True, False)
    assert counts.pointed == 0.5  # both are equally sure


def test_one_less_than_there_are() -> None:
    counts = counted([NODULE, FAR], [NODULE])
    assert (counts.true, counts.slots, counts.iou, counts.giou, counts.pointed) == (2, 2, 1, 0, 1)


def test_missed_and_false_boxes() -> None:
    missed, false = counted([NODULE, FAR], []), counted([], [NODULE, FAR])
    assert (missed.true, missed.named, missed.slots, missed.iou, missed.giou, missed.pointed) == (2, (), 2, 0, -2, 0)
    assert (false.true, false.named, false.slots, false.iou, false.giou, false.pointed) == (0, (100, 100), 2, 0, -2, 0)
    assert false.correct == {0.3: (False, False), 0.5: (False, False)}


def test_nothing_on_both_sides_counts_nothing() -> None:
    assert count_boxes(TrueBoxes(()), []) == {}


def test_what_the_readers_did_not_box_is_left_out() -> None:
    assert count_boxes(TrueBoxes((), unboxed=frozenset({"nodule"})), [NODULE]) == {}


def test_findings_are_not_mixed() -> None:
    counts = count_boxes(TrueBoxes((NODULE,)), [FindingBox("mass", NODULE.box)])
    assert counts["nodule"].iou == counts["mass"].iou == 0


def test_the_surest_box_is_pointed_with_and_takes_its_truth_first() -> None:
    sure, unsure = FindingBox("nodule", HALF.box, 0.9), FindingBox("nodule", NODULE.box, 0.2)
    counts = counted([NODULE], [unsure, sure])
    assert (counts.named, counts.correct[0.5]) == ((90, 20), (True, False))
    assert counts.iou == 1  # the best pair, whatever the scores
    assert counted([NODULE], [unsure, FindingBox("nodule", FAR.box, 0.9)]).pointed == 0


corner = st.integers(0, 8)
size = st.integers(1, 8)
box = st.builds(lambda y, x, h, w: (y, x, y + h, x + w), corner, corner, size, size)
drawn = st.builds(FindingBox, st.sampled_from(["nodule", "mass"]), box, st.sampled_from([0.2, 0.5, 1.0]))


@given(st.lists(drawn, max_size=5), st.lists(drawn, max_size=5), st.randoms())
def test_the_order_of_boxes_does_not_matter(
    truth: list[FindingBox], predicted: list[FindingBox], shuffler: random.Random
) -> None:
    before = count_boxes(TrueBoxes(tuple(truth)), predicted)
    shuffler.shuffle(truth)
    shuffler.shuffle(predicted)
    assert count_boxes(TrueBoxes(tuple(truth)), predicted) == before


@given(st.lists(drawn, max_size=5), st.lists(drawn, max_size=5))
def test_no_prediction_beats_the_truth(truth: list[FindingBox], predicted: list[FindingBox]) -> None:
    surest = [FindingBox(b.finding, b.box) for b in truth]
    for name, perfect in count_boxes(TrueBoxes(tuple(truth)), surest).items():
        assert perfect.iou == pytest.approx(perfect.slots)
        assert perfect.giou == pytest.approx(perfect.slots)
        assert (perfect.pointed, perfect.correct[0.5]) == (1, (True,) * perfect.true)
        other = count_boxes(TrueBoxes(tuple(truth)), predicted)[name]
        assert other.true == perfect.true
        assert -other.slots - 1e-9 <= other.giou <= other.iou + 1e-9 <= min(other.true, len(other.named)) + 2e-9
