"""Iterative stratification: splits in which every finding, the rarest first, has its share.

Sechidis, Tsoumakas & Vlahavas, On the Stratification of Multi-Label Data (ECML PKDD 2011), with groups of connected
patients in the place of samples. Unlike a hash, it decides with the whole table in view: other rows, other splits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np


def stratify(findings: Mapping[str, frozenset[str]], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assigns groups to splits.

    Args:
        findings: the names of the findings of every group.
        fractions: share of each split, adding up to 1.
        seed: decides between splits that want a group equally.

    Returns:
        The split of every group.
    """
    names, shares = list(fractions), np.array(list(fractions.values()))
    rng = np.random.default_rng(seed)
    # By name first, so that the order of rows does not matter.
    order = [group for group, _ in sorted(findings.items())]
    order = [order[index] for index in rng.permutation(len(order))]
    waiting: dict[str, dict[str, None]] = defaultdict(dict)  # finding -> groups, in `order`
    for group in order:
        for name in sorted(findings[group]):
            waiting[name][group] = None
    wanted = {name: shares * len(groups) for name, groups in waiting.items()}  # finding -> [splits]
    room, split_of = shares * len(order), dict[str, str]()

    def assign(group: str, desire: np.ndarray) -> None:
        best = np.flatnonzero(desire == desire.max())
        best = best[room[best] == room[best].max()]
        chosen = int(best[0] if len(best) == 1 else rng.choice(best))
        split_of[group] = names[chosen]
        room[chosen] -= 1
        for name in findings[group]:
            wanted[name][chosen] -= 1
            del waiting[name][group]

    while open_names := [name for name, groups in waiting.items() if groups]:
        rarest = min(open_names, key=lambda name: (len(waiting[name]), name))
        for group in list(waiting[rarest]):
            assign(group, wanted[rarest])
    for group in order:
        if group not in split_of:
            assign(group, room)
    return split_of
