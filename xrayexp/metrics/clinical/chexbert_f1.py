"""CheXbert F1: CheXpert's 14 observations, read from both reports by CheXbert."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from xrayexp.checks import Check
from xrayexp.metrics.base import Classes, Definition, Floats, Invariant, Metric, Sums
from xrayexp.metrics.clinical.chexbert_package import FIVE, LABELS, ChexbertRows, chexbert_rows
from xrayexp.metrics.clinical.files import chexbert_files
from xrayexp.metrics.clinical.texts import caution, predicted_texts, true_texts, weakness
from xrayexp.metrics.formulas import blocks, precision_recall_f1, ratio
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import NO_REPORT, Part, row

FIVE_COLUMNS = np.array([LABELS.index(label) for label in FIVE])
WEAKNESS = (
    "It is a model's reading of both texts, and an error that it makes on both sides counts as right; 'possible "
    "pneumonia' and 'pneumonia' are the same to it, and what is not among the labels does not count."
)
CAUTION = "a model reads both texts"
NEEDS = ("the weights that `xrayexp data fetch-metrics` fetches", "a GPU for many reports")
# A model reads the text: the order of sentences may move it, and a wrong finding may share a label with a true one.
_NOT_PROMISED = frozenset({Invariant.WRONG_BEATS_NOTHING, Invariant.ORDER_IS_IRRELEVANT})

_labelled: WeakKeyDictionary[ReportSet, ChexbertRows] = WeakKeyDictionary()


class ChexbertF1(Metric):
    """Micro and macro averages over the 14 labels and over the 5 of CheXpert's competition; and every label.

    Args:
        constructed: whether the true reports are made from labels, so that figures do not compare with published ones.
        device: such as cpu; None for the GPU if there is one.
    """

    name: ClassVar[str] = "chexbert"
    needs = NEEDS

    def __init__(self, constructed: bool = True, device: str | None = None) -> None:
        self.device, self.wraps = device, package()
        self.definitions = (*_definitions(5, constructed), *_definitions(14, constructed))

    def unavailable(self) -> Check | None:
        return missing_weights()

    def measure(self, reports: ReportSet) -> Sums:
        rows = labels_of(reports, self.device)
        both = rows.truths & rows.predictions
        table = np.concatenate([rows.truths, rows.predictions, both], axis=1).astype(float)
        return Sums(table, _formula, Classes(LABELS))


def missing_weights() -> Check | None:
    """None when CheXbert can be run."""
    check = chexbert_files()
    return None if check.status == "ok" else check


def labels_of(reports: ReportSet, device: str | None) -> ChexbertRows:
    """CheXbert's labels of these reports, which several metrics need and one run gives."""
    if reports not in _labelled:
        truths, predictions = true_texts(reports), predicted_texts(reports)
        _labelled[reports] = chexbert_rows(truths=truths, predictions=predictions, device=device)
    return _labelled[reports]


def package() -> str:
    """Name and version."""
    return f"f1chexbert {version('f1chexbert')}"


def _definitions(labels: int, constructed: bool) -> tuple[Definition, ...]:
    over = f"CheXbert's {labels} labels"
    none_true, none_named = f"none of {over} is true", f"none of {over} is named"
    micro = row(
        f"chexbert{labels}_micro",
        f"CheXbert-{labels} micro",
        precision=Part(f"{over}, over all reports", f"Share of the named ones of {over} that are true.", none_named),
        recall=Part(f"{over}, over all reports", f"Share of the true ones of {over} that are named.", none_true),
        f1=Part(
            f"{over}, over all reports",
            f"Harmonic mean of micro precision and micro recall over {over}.",
            f"none of {over} is true or named",
        ),
        weakness=weakness(WEAKNESS, constructed),
        caution=caution(CAUTION, constructed),
        broken=_NOT_PROMISED,
        listing_wins=labels == 5,
    )
    macro = row(
        f"chexbert{labels}_macro",
        f"CheXbert-{labels} macro",
        precision=Part(over, f"Mean precision over {over}; a label that is never named counts as 0.", NO_REPORT),
        recall=Part(over, f"Mean recall over {over}; a label that is never true counts as 0.", NO_REPORT),
        f1=Part(over, f"Mean F1 over {over}; a label that is neither true nor named counts as 0.", NO_REPORT),
        weakness=weakness(f"{WEAKNESS} A test set in which a label never occurs cannot reach 1.", constructed),
        caution=caution(CAUTION, constructed),
        # A label that is nowhere true counts as 0, so the truth as prediction may score less than 1.
        broken=_NOT_PROMISED | {Invariant.PERFECT_IS_BEST},
        listing_wins=labels == 5,
    )
    return (*micro, *macro)


def _formula(sums: Floats) -> Floats:
    """scikit-learn's classification_report, as F1CheXbert prints it."""
    parts = blocks(sums)
    found = []
    for columns in (FIVE_COLUMNS, np.arange(len(LABELS))):
        true, named, correct = (part[..., columns] for part in parts)
        found.append(precision_recall_f1(np.stack([part.sum(axis=-1) for part in (true, named, correct)], axis=-1)))
        scores = (ratio(correct, named), ratio(correct, true), ratio(2 * correct, true + named))
        found.append(np.stack([np.nan_to_num(score).mean(axis=-1) for score in scores], axis=-1))
    return np.concatenate(found, axis=-1)
