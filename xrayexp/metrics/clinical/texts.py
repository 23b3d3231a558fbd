"""The texts that these metrics read, true and predicted, told apart by name; and what is said of constructed ones."""

from __future__ import annotations

from collections.abc import Sequence

from xrayexp.errors import DataError
from xrayexp.metrics.report_set import ReportSet

NOT_COMPARABLE = "not comparable with published figures"


def require_pairs(truths: Sequence[str], predictions: Sequence[str]) -> None:
    """Passes when there is one prediction for each truth.

    Raises:
        TypeError: one text was given where a list of texts belongs, which would be read letter by letter.
        ValueError: the numbers differ.
    """
    for name, texts in (("truths", truths), ("predictions", predictions)):
        if isinstance(texts, str):
            raise TypeError(f"{name} is a list of texts, not one text")
    if len(truths) != len(predictions):
        raise ValueError(f"{len(truths)} truths and {len(predictions)} predictions: each prediction needs its truth")


def unique(*lists: Sequence[str]) -> list[str]:
    """The texts of all lists that hold something besides blanks, each once: constructed reports recur."""
    return list(dict.fromkeys(text for texts in lists for text in texts if text.strip()))


def true_texts(reports: ReportSet) -> list[str]:
    """The true reports.

    Raises:
        DataError: none has a text, as in data sets of labels or boxes alone.
    """
    texts = [report.truth_text for report in reports.reports]
    if not any(texts):
        raise DataError("the true reports have no text to compare with")
    return texts


def predicted_texts(reports: ReportSet) -> list[str]:
    """What the model wrote, parsed or not."""
    return [report.predicted_text for report in reports.reports]


def weakness(text: str, constructed: bool) -> str:
    """A metric's weakness, with a further one where the true reports are made from labels.

    Args:
        text: the weakness, whatever the reports.
        constructed: whether the true reports are made from labels, as those of PadChest and of phantoms.
    """
    return f"{text} The true reports are constructed: {NOT_COMPARABLE}." if constructed else text


def caution(text: str, constructed: bool) -> str:
    """What fits the table: of constructed reports nothing else is as important."""
    return NOT_COMPARABLE if constructed else text
