"""CheXpert's 14 observations and its 5 competition tasks, read from PadChest's labels by a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from xrayexp.data.observations import FIVE, NO_FINDING, OBSERVATIONS, SUPPORT_DEVICES, TABLE, read_observations
from xrayexp.data.report import NORMAL
from xrayexp.metrics.base import Classes, Definition, Floats, Invariant, Metric, Sums
from xrayexp.metrics.formulas import blocks, class_mean, precision_recall_f1
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.structured.rows import Part, row

_FIVE_COLUMNS = np.array([OBSERVATIONS.index(name) for name in FIVE])
_WHAT = ("true", "named", "true or named")
_FIVE_ALONE = ", or the reports state CheXpert's 5 alone"
_WEAKNESS = (
    "The table says which PadChest label stands for which observation, and some of its choices are doubtful; figures "
    "of others come from English free text through a labeller, which also takes 'uncertain' for positive."
)


def _definitions() -> tuple[Definition, ...]:
    found: list[Definition] = []
    for classes in ("5", "14"):
        over = f"CheXpert's {classes} observations"
        micro, macro = f"{over}, stated, over all reports", f"those of {over} with true support"
        listing_wins = classes == "5"  # of the 14, No Finding is no longer stated
        alone = "" if classes == "5" else _FIVE_ALONE
        none_true, none_named, nothing = (f"none of the {classes} is {what}{alone}" for what in _WHAT)
        found += row(
            f"chexpert{classes}_micro",
            f"CheXpert-{classes} micro",
            precision=Part(micro, f"Share of all named ones of {over} that are true.", none_named),
            recall=Part(micro, f"Share of all true ones of {over} that are named.", none_true),
            f1=Part(micro, f"Harmonic mean of micro precision and micro recall over {over}.", nothing),
            weakness=_WEAKNESS,
            caution="labels mapped by a table",
            broken=frozenset({Invariant.WRONG_BEATS_NOTHING}),
            listing_wins=listing_wins,
        )
        found += row(
            f"chexpert{classes}_macro",
            f"CheXpert-{classes} macro",
            precision=Part(macro, f"Mean precision over {over}; one that is never named counts as 0.", none_true),
            recall=Part(macro, f"Mean recall over {over}.", none_true),
            f1=Part(macro, f"Mean F1 over {over}.", none_true),
            weakness=_WEAKNESS,
            caution="labels mapped by a table",
            broken=frozenset({Invariant.WRONG_BEATS_NOTHING}),
            listing_wins=listing_wins,
        )
    return tuple(found)


class CheXpert(Metric):
    """Scores beside those that others publish for CheXpert's observations.

    Reports in the five labels of the competition (`data.source.classes=5`) say nothing of the other nine, and their
    No Finding would be another one: they have no scores of the 14.

    Args:
        file: a YAML of observations, each with its list of PadChest labels; None for the table of this package.

    Raises:
        DataError: the file cannot be read.
        ConfigError: it lacks an observation or has an unknown one.
    """

    name: ClassVar[str] = "chexpert"
    definitions = _definitions()

    def __init__(self, file: str | None = None) -> None:
        self.observations: dict[str, list[str]] = {}  # of every PadChest label
        for observation, labels in read_observations(Path(file) if file else TABLE).items():
            for label in labels:
                self.observations.setdefault(label, []).append(observation)

    def measure(self, reports: ReportSet) -> Sums:
        stated = reports.names.mapped(lambda name: self.observations.get(name, ()), OBSERVATIONS)
        true, named = (_with_no_finding(side.toarray(), names.sum(axis=1)) for side, names in (
            (stated.true, reports.names.true), (stated.named, reports.names.named),
        ))  # fmt: skip
        if _states_five_alone(reports.names.vocabulary):
            true, named = true[:, _FIVE_COLUMNS], named[:, _FIVE_COLUMNS]
            return Sums(np.concatenate([true, named, true * named], axis=1), _formula_of_five, Classes(FIVE))
        return Sums(np.concatenate([true, named, true * named], axis=1), _formula, Classes(OBSERVATIONS))


def _with_no_finding(observed: Floats, names: Any) -> Floats:
    """CheXpert's rule: a report that says something and none of the others, whatever the devices.

    A prediction that names nothing, such as one that could not be parsed, is no normal chest.

    Args:
        observed: [reports, 14].
        names: number of findings in each report, [reports].
    """
    others = [i for i, name in enumerate(OBSERVATIONS) if name not in (NO_FINDING, SUPPORT_DEVICES)]
    observed[:, OBSERVATIONS.index(NO_FINDING)] = (np.asarray(names) > 0) & ~observed[:, others].any(axis=1)
    return observed


def _states_five_alone(names: Iterable[str]) -> bool:
    """Whether nothing but the names that a data set gives to CheXpert's five is stated, and normal."""
    table = read_observations()
    stated = set(names) - {NORMAL}
    return bool(stated) and stated <= {table[label][0] for label in FIVE}


def _formula(sums: Floats) -> Floats:
    parts = blocks(sums)
    five = np.concatenate([part[..., _FIVE_COLUMNS] for part in parts], axis=-1)
    return np.concatenate([_micro_and_macro(five), _micro_and_macro(sums)], axis=-1)


def _formula_of_five(sums: Floats) -> Floats:
    five = _micro_and_macro(sums)
    return np.concatenate([five, np.full_like(five, np.nan)], axis=-1)


def _micro_and_macro(sums: Floats) -> Floats:
    """Precision, recall and F1 of either, from true, named and correct ones of some observations."""
    together = np.stack([part.sum(axis=-1) for part in blocks(sums)], axis=-1)
    return np.concatenate([precision_recall_f1(together), class_mean(sums)], axis=-1)
