"""How far two boxes agree, and which box stands for which.

torchmetrics' detection metrics need torchvision, which every torch build wants in a version of its own; tests hold
these few lines against pycocotools. Boxes are (y0, x0, y1, x1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]


def iou(some: Floats, others: Floats) -> Floats:
    """Intersection over union of every box with every other: [some, 4] and [others, 4] to [some, others]."""
    shared, union = _shared_and_union(some, others)
    return shared / union


def generalised_iou(some: Floats, others: Floats) -> Floats:
    """IoU less the share of the smallest enclosing box that neither covers (Rezatofighi et al. 2019, algorithm 1).

    From -1 to 1: unlike IoU, it tells near misses from far ones. [some, 4] and [others, 4] to [some, others].
    """
    shared, union = _shared_and_union(some, others)
    low = np.minimum(some[:, None, :2], others[None, :, :2])
    high = np.maximum(some[:, None, 2:], others[None, :, 2:])
    enclosing = (high - low).prod(axis=-1)
    value: Floats = shared / union - (enclosing - union) / enclosing
    return value


def best_pairs(gain: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pairs, each row and column at most once, whose gains have the largest sum (Hungarian method).

    Args:
        gain: [rows, columns].

    Returns:
        Rows and columns, as many as the smaller of both numbers.
    """
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return rows, columns


def _shared_and_union(some: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Areas of intersection and union, [some, others] each."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    areas, other_areas = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (some, others))
    return shared, areas[:, None] + other_areas[None, :] - shared
