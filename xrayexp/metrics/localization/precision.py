"""Average precision from sums: boxes drawn and boxes that hit, by level of their score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

RECALLS = np.linspace(0, 1, 101)  # COCO's


def average_precision(true: Floats, named: Floats, correct: Floats) -> Floats:
    """COCO's average precision: the precision, made to fall with recall, averaged over 101 recalls.

    With distinct scores it is pycocotools' value. Boxes of equal score enter together: without scores the curve is
    one point, and the value is the precision times the share of recalls that are reached.

    Args:
        true: number of true boxes, [...].
        named: boxes by level of their score, the surest level first, [..., levels].
        correct: those of them that are on a true box.

    Returns:
        [...]; NaN where there is no true box.
    """
    found, drawn = correct.cumsum(axis=-1), named.cumsum(axis=-1)
    precision = np.divide(found, drawn, out=np.zeros(found.shape), where=drawn > 0)
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    recall = np.divide(found, true[..., None], out=np.zeros(found.shape), where=true[..., None] > 0)
    reached = np.searchsorted(RECALLS, recall, side="right")  # how many of the recalls, by level
    steps = np.diff(reached, axis=-1, prepend=0)
    value = (envelope * steps).sum(axis=-1) / len(RECALLS)
    return np.where(true > 0, value, np.nan)
