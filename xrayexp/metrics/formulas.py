"""The arithmetic of the metrics: from counts with leading axes [...] to values [...].

A value that does not exist is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xrayexp.metrics.counts import Counts, Floats


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide [...] by [...]; NaN, not 0, where the denominator is 0."""
    quotient: Floats = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def finding_precision(counts: Counts) -> Floats:
    """Per finding, correct over named: [..., findings]."""
    return ratio(counts.finding("correct"), counts.finding("named"))


def finding_recall(counts: Counts) -> Floats:
    """Per finding, correct over true: [..., findings]."""
    return ratio(counts.finding("correct"), counts.finding("true"))


def finding_f1(counts: Counts) -> Floats:
    """Per finding, twice correct over true plus named: [..., findings]."""
    return ratio(2 * counts.finding("correct"), counts.finding("true") + counts.finding("named"))


def mean(column: str, over: str = "reports") -> Callable[[Counts], Floats]:
    """A formula: one scalar count over another."""
    return lambda counts: ratio(counts.scalar(column), counts.scalar(over))


def f1(correct: str, true: str, named: str) -> Callable[[Counts], Floats]:
    """A formula: the harmonic mean of correct over named and correct over true."""
    return lambda counts: ratio(2 * counts.scalar(correct), counts.scalar(true) + counts.scalar(named))


def macro(score: Callable[[Counts], Floats]) -> Callable[[Counts], Floats]:
    """A formula: the mean over the findings with true support; one that is never named has precision 0.

    Leaving its undefined precision out instead would reward a model for never naming what is rare.
    """

    def formula(counts: Counts) -> Floats:
        supported = counts.finding("true") > 0
        scores = np.where(supported, np.nan_to_num(score(counts)), 0.0)
        return ratio(scores.sum(axis=-1), supported.sum(axis=-1))

    return formula
