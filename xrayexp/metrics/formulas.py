"""The arithmetic of the metrics: from sums with leading axes [...] to values [...].

A value that does not exist is NaN.
"""

from __future__ import annotations

import numpy as np

from xrayexp.metrics.base import Floats


def ratio(numerator: Floats, denominator: Floats, undefined: float = np.nan) -> Floats:
    """Divide [...] by [...]; NaN, not 0, where the denominator is 0, or what the caller says."""
    quotient: Floats = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), undefined)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def means(sums: Floats) -> Floats:
    """The other columns over the last one, which says how many there are: [..., columns] to [..., columns - 1]."""
    return ratio(sums[..., :-1], sums[..., -1:])


def precision_recall_f1(sums: Floats) -> Floats:
    """From numbers of true, named and correct items [..., 3 x kinds] to [..., 3 x kinds]: precisions, recalls, F1."""
    true, named, correct = blocks(sums)
    return np.concatenate([ratio(correct, named), ratio(correct, true), ratio(2 * correct, true + named)], axis=-1)


def blocks(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """The true, named and correct of [..., 3 x classes], each [..., classes]."""
    size = sums.shape[-1] // 3
    return sums[..., :size], sums[..., size : 2 * size], sums[..., 2 * size :]


def class_mean(sums: Floats, weights: Floats | None = None) -> Floats:
    """Mean precision, recall and F1 over the classes that are true at least once: [..., 3 x classes] to [..., 3].

    A class that is never named has precision 0: leaving its undefined precision out instead would reward a model for
    never naming what is rare.

    Args:
        sums: true, named and correct of every class.
        weights: [..., classes], what each class counts; None for 1 each.
    """
    true, named, correct = blocks(sums)
    counted = np.where(true > 0, 1.0 if weights is None else weights, 0.0)
    total = counted.sum(axis=-1)
    scores = (ratio(correct, named, 0.0), ratio(correct, true, 0.0), ratio(2 * correct, true + named, 0.0))
    weighted = [np.einsum("...c,...c->...", counted, score) for score in scores]
    return np.stack([ratio(sum_, total) for sum_ in weighted], axis=-1)
