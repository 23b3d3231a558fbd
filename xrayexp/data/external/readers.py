"""Several radiologists read one image: what they agree on.

* A finding is true when more than half of the readers of its image mark it.
* Its boxes: those of different readers that overlap by an IoU of at least 0.5 are one box, their mean, as weighted box
  fusion with equal weights makes it (Solovyev et al. 2021); it stands when enough readers have a part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xrayexp.data.overlap import Floats, iou

AGREEING = 0.5  # IoU


def majority(readers: int) -> int:
    """How many readers are more than half."""
    return readers // 2 + 1


def fuse(boxes: Mapping[str, Sequence[Sequence[float]]], least: int) -> Floats:
    """The boxes that readers have in common.

    Args:
        boxes: of each reader, (y0, x0, y1, x1).
        least: readers who must have a part in a box.

    Returns:
        [boxes, 4], sorted.
    """
    groups: list[dict[str, Floats]] = []
    for reader, drawn in sorted(boxes.items()):
        for box in sorted(np.asarray(b, dtype=np.float64).tolist() for b in drawn):
            open_groups = [group for group in groups if reader not in group]
            means = np.array([_mean(group) for group in open_groups]).reshape(-1, 4)
            overlaps = iou(np.array([box]), means)[0]
            best = int(overlaps.argmax()) if len(overlaps) else -1
            if best >= 0 and overlaps[best] >= AGREEING:
                open_groups[best][reader] = np.array(box)
            else:
                groups.append({reader: np.array(box)})
    agreed = sorted(_mean(group).tolist() for group in groups if len(group) >= least)
    return np.array(agreed, dtype=np.float64).reshape(-1, 4)


def _mean(group: Mapping[str, Floats]) -> Floats:
    mean: Floats = np.mean(list(group.values()), axis=0)
    return mean
