"""What both clinical metrics take: true and predicted texts, told apart by name."""

from __future__ import annotations

from collections.abc import Sequence


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
