"""BLEU-4 over all reports."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Definition, Floats, Invariant, Metric, Sums
from xrayexp.metrics.clinical.texts import caution, predicted_texts, require_pairs, true_texts, weakness
from xrayexp.metrics.formulas import ratio
from xrayexp.metrics.report_set import ReportSet

ORDERS = 4

_WEAKNESS = (
    "It counts words, not findings: leaving out 'no' costs as much as leaving out 'the', and the "
    "fixed words of a template lift it."
)


class Bleu(Metric):
    """Papineni et al., ACL 2002, over the whole corpus, in lower case, tokens of mteval-v13a, one reference.

    Args:
        constructed: whether the true reports are made from labels, so that figures do not compare with published ones.
    """

    name: ClassVar[str] = "bleu"

    def __init__(self, constructed: bool = True) -> None:
        self.wraps = f"torchmetrics {version('torchmetrics')}"
        self.definitions = (
            Definition(
                name="bleu4",
                title="BLEU-4",
                averages_over="words and runs of up to four words, over all reports",
                definition="Geometric mean of the shares of predicted runs of one, two, three and four words that "
                "stand in the true report, times a penalty for predictions that are shorter.",
                weakness=weakness(_WEAKNESS, constructed),
                caution=caution("counts words, not findings", constructed),
                undefined="no report was scored",
                invariants=frozenset({Invariant.PERFECT_IS_BEST, Invariant.LISTING_DOES_NOT_WIN}),
            ),
        )

    def measure(self, reports: ReportSet) -> Sums:
        return Sums(bleu_rows(truths=true_texts(reports), predictions=predicted_texts(reports)), _formula)


def bleu_rows(*, truths: list[str], predictions: list[str]) -> Floats:
    """What BLEU adds up, for each report: [reports, 4 common runs, 4 predicted runs, predicted and true words]."""
    from torchmetrics.text import SacreBLEUScore

    require_pairs(truths, predictions)
    bleu = SacreBLEUScore(n_gram=ORDERS, tokenize="13a", lowercase=True)
    rows = np.zeros((len(truths), 2 * ORDERS + 2))
    for row, truth, prediction in zip(rows, truths, predictions, strict=True):
        bleu.reset()
        bleu.update([prediction], [[truth]])
        row[:ORDERS], row[ORDERS:-2] = bleu.numerator, bleu.denominator
        row[-2:] = bleu.preds_len, bleu.target_len
    return rows


def _formula(sums: Floats) -> Floats:
    """[..., 10] to [..., 1]; 0 where no run of four words is common, as in torchmetrics and sacrebleu unsmoothed."""
    common, predicted = sums[..., :ORDERS], sums[..., ORDERS:-2]
    length, true_length = sums[..., -2], sums[..., -1]
    shares = np.nan_to_num(ratio(common, predicted))
    geometric = np.exp(np.log(np.maximum(shares, 1e-300)).mean(axis=-1)) * (shares > 0).all(axis=-1)
    shortness = np.nan_to_num(ratio(true_length, length), nan=np.inf)
    score = geometric * np.exp(np.minimum(0.0, 1.0 - shortness))
    value: Floats = np.where(length + true_length > 0, score, np.nan)[..., None]
    return value
