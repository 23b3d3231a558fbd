"""A choice as an axis: where each of its values lies, and what stands beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xrayexp.search.importance import LOG_RATIO, is_number
from xrayexp.tracking.choices import in_words

MOST_TICKS = 5
LONGEST = 16  # characters of a word beside an axis


@dataclass(frozen=True, slots=True)
class Axis:
    """One choice.

    Attributes:
        key: of the config, such as "optimizer.lr".
        words: the values where they are no numbers, in order; empty for numbers.
        numbers: the values that occur, from the smallest; empty for words.
        log: whether the numbers stand on a logarithmic scale.
        gaps: whether some rows lack the choice.
    """

    key: str
    words: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    log: bool = False
    gaps: bool = False

    def place(self, value: Any) -> float:
        """Where a value lies, from 0 to 1."""
        if self.words:
            last = len(self.words) - 1
            return self.words.index(in_words(value)) / last if last else 0.5
        return self._place(float(value))

    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) of a few values."""
        if self.words:
            return [(self.place(word), _short(word)) for word in self.words]
        values = self.numbers if len(self.numbers) <= MOST_TICKS else nice_ticks(*self._ends(), self.log)
        return [(self._place(value), f"{value:g}") for value in values]

    def _ends(self) -> tuple[float, float]:
        return self.numbers[0], self.numbers[-1]

    def _place(self, value: float) -> float:
        low, high = self._ends()
        if low == high:
            return 0.5
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)


def axes_of(rows: Sequence[Mapping[str, Any]], log: Mapping[str, bool]) -> tuple[Axis, ...]:
    """An axis for every choice that is not the same in all rows, in the order in which they come first.

    Left out is what an earlier axis says already: adapter.peft.r where it is adapter.r, and what has but one value, in
    the rows of some adapters.

    Args:
        rows: the choices of each, by key; a row without any is not known, and says nothing.
        log: by key whether its numbers were drawn on a logarithmic scale, where that is known.
    """
    known = [row for row in rows if row]
    axes: list[Axis] = []
    for key in dict.fromkeys(key for row in known for key in row):
        values = [row[key] for row in known if key in row]
        gaps = len(values) < len(known)
        differs = gaps or len({in_words(value) for value in values}) > 1
        if differs and not any(_says(known, axis.key, key) for axis in axes):
            axes.append(_axis(key, values, gaps, log.get(key)))
    return tuple(axes)


def _says(rows: Sequence[Mapping[str, Any]], earlier: str, key: str) -> bool:
    """Whether a choice can be told from an earlier one, and is worth no axis of its own."""
    pairs = {(_word(row, earlier), _word(row, key)) for row in rows}
    if _is_same_setting(earlier, key) and all(one == other or other is None for one, other in pairs):
        return True
    told = len(pairs) == len({one for one, _ in pairs})
    few = len({other for _, other in pairs} - {None}) < 2
    return told and (few or key.rpartition(".")[2].startswith("_"))


def _is_same_setting(earlier: str, key: str) -> bool:
    """Whether two keys say where the config repeats itself: adapter.alpha and adapter.peft.lora_alpha."""
    group, _, name = earlier.rpartition(".")
    return bool(group) and key.startswith(f"{group}.") and key.endswith(name)


def _word(row: Mapping[str, Any], key: str) -> str | None:
    return in_words(row[key]) if key in row else None


def _axis(key: str, values: Sequence[Any], gaps: bool, log: bool | None) -> Axis:
    numbers = sorted({float(value) for value in values if is_number(value)})
    if not all(map(is_number, values)):
        return Axis(key, words=tuple(dict.fromkeys(map(in_words, values))), gaps=gaps)
    wide = numbers[0] > 0 and numbers[-1] / numbers[0] >= LOG_RATIO
    return Axis(key, numbers=tuple(numbers), log=(wide if log is None else log) and numbers[0] > 0, gaps=gaps)


def is_log(distribution: str) -> bool | None:
    """Whether Optuna's JSON of a distribution says that it is logarithmic; None where it says nothing."""
    log = json.loads(distribution).get("attributes", {}).get("log")
    return None if log is None else bool(log)


def nice_ticks(low: float, high: float, log: bool = False) -> list[float]:
    """A few round numbers between two; the two themselves where there are none."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    steps = (1.0, 2.0, 5.0) if log and high / low < 20 else (1.0, 3.0) if log and high / low < 2000 else (1.0,)
    locator = LogLocator(subs=steps) if log else MaxNLocator(MOST_TICKS)
    found = [float(f"{tick:.12g}") for tick in locator.tick_values(low, high)]
    inside = [tick for tick in found if low <= tick <= high]
    return inside if len(inside) > 1 else [low, high]


def _short(word: str) -> str:
    return word if len(word) <= LONGEST else word[: LONGEST - 1] + "\u2026"
