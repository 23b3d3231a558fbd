"""Boxes in a model's answer: MedGemma 1.5's list of {"box_2d": [y0, x0, y1, x1], "label": ...}, usually fenced.

Source: Google-Health/medgemma, `cxr_anatomy_localization_with_hugging_face.ipynb`. The numbers are thousandths of the
square that the image was padded to; the technical report (arXiv 2604.05081) writes shares of it, so both are read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xrayexp.data.boxes import MEDGEMMA, MEDGEMMA_SHARES, FindingBox, ImageBoxes
from xrayexp.data.geometry import Crop

THINKING = ("<unused94>", "<unused95>")
"""MedGemma 1.5 may think aloud between these two, even when it was not asked to."""

_DECODER = json.JSONDecoder()
_OPENING = re.compile(r"[\[{]")


@dataclass(frozen=True, slots=True)
class BoxAnswer:
    """What could be read of an answer.

    Attributes:
        labels: of the boxes, lower case, in order.
        values: four numbers each, as they were written.
        malformed: entries of the list that are no box with a label, and were left out.
    """

    labels: tuple[str, ...]
    values: tuple[tuple[float, float, float, float], ...]
    malformed: int = 0

    def located(self, shape: tuple[int, int], seen: Crop | None = None) -> tuple[FindingBox, ...]:
        """The boxes in an image file's pixels, cut at its edges; one that lies outside of it is left out.

        Numbers of at most 1 throughout are shares, since no box is one thousandth wide; others are thousandths.

        Args:
            shape: height and width of the file.
            seen: the part of it that the model saw; None for the whole.
        """
        largest = max((abs(number) for numbers in self.values for number in numbers), default=0.0)
        convention = MEDGEMMA_SHARES if largest <= 1 else MEDGEMMA
        inside, kept = ImageBoxes.of(self.values, convention, shape, seen).clipped()
        corners = [(float(y0), float(x0), float(y1), float(x1)) for y0, x0, y1, x1 in inside.values]
        return tuple(FindingBox(self.labels[index], box) for index, box in zip(kept, corners, strict=True))


def without_thinking(text: str) -> str:
    """An answer without its thinking trace; of an unfinished one nothing is left but what stood before."""
    opening, closing = THINKING
    before, _, rest = text.partition(opening)
    return before + rest.partition(closing)[2]


def parse_box_answer(text: str) -> BoxAnswer | None:
    """Reads the last list of boxes in an answer; None when there is none.

    Everything around it is ignored: a thinking trace (an unfinished one hides all that follows), reasoning, the fence,
    a final sentence. An empty list says that there is no box. A list in which no entry is a box is no answer, nor is
    one that was cut off.
    """
    found = None
    for entries in _lists(without_thinking(text)):
        read = [box for entry in entries if (box := _box(entry)) is not None]
        if read or not entries:
            labels, values = tuple(label for label, _ in read), tuple(numbers for _, numbers in read)
            found = BoxAnswer(labels, values, malformed=len(entries) - len(read))
    return found


def _lists(text: str) -> Iterator[list[Any]]:
    """Every JSON list of objects in a text, and an object that stands alone as a list of one."""
    position = 0
    while (match := _OPENING.search(text, position)) is not None:
        try:
            value, position = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, a thousand brackets
            position = match.end()
            continue
        alone = isinstance(value, dict) and not text[: match.start()].rstrip().endswith(("[", ","))
        entries = [value] if alone else value  # an object that is not alone belongs to a list that was cut off
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
            yield entries


def _box(entry: Any) -> tuple[str, tuple[float, float, float, float]] | None:
    label, numbers = entry.get("label"), entry.get("box_2d")
    if not isinstance(label, str) or not label.strip() or not isinstance(numbers, list) or len(numbers) != 4:
        return None
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        return None
    try:
        y0, x0, y1, x1 = (float(number) for number in numbers)
    except OverflowError:
        return None
    if not all(map(math.isfinite, (y0, x0, y1, x1))):
        return None
    return label.strip().lower(), (y0, x0, y1, x1)
