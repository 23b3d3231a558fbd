"""RadGraph F1: entities and relations that a model finds in both reports."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

import numpy as np

from xrayexp.checks import Check
from xrayexp.errors import ConfigError
from xrayexp.metrics.base import Definition, Invariant, Metric, Sums
from xrayexp.metrics.clinical.files import RADGRAPH_MODELS, radgraph_files
from xrayexp.metrics.clinical.radgraph_package import LEVELS, radgraph_rows
from xrayexp.metrics.clinical.texts import caution, predicted_texts, true_texts, weakness
from xrayexp.metrics.formulas import means
from xrayexp.metrics.report_set import ReportSet

_AGREEMENT = {
    "simple": "their words and their label",
    "partial": "their words, their label and whether they have a relation",
    "complete": "their words, their label and, where they have relations, each relation with its target's words",
}
_WEAKNESS = (
    "It is a model's reading of both texts: words count letter by letter ('enlarged heart' is not 'cardiomegaly'), "
    "style moves it, and a report in which the model finds nothing scores 0, even beside an empty truth."
)


class RadGraphF1(Metric):
    """Mean over reports, at the package's three levels.

    Args:
        model: one of RADGRAPH_MODELS: figures of different models do not compare.
        constructed: whether the true reports are made from labels, so that figures do not compare with published ones.
        device: such as cpu; None for the GPU if there is one.

    Raises:
        ConfigError: there is no such model.
    """

    name: ClassVar[str] = "radgraph"
    needs = ("the weights that `xrayexp data fetch-metrics` fetches", "a GPU for many reports")

    def __init__(self, model: str = RADGRAPH_MODELS[0], constructed: bool = True, device: str | None = None) -> None:
        if model not in RADGRAPH_MODELS:
            raise ConfigError([f"no RadGraph model '{model}'; there are {', '.join(RADGRAPH_MODELS)}"])
        self.model, self.device = model, device
        self.wraps = f"radgraph {version('radgraph')}, model {model}"
        self.definitions = tuple(_definition(level, model, constructed) for level in LEVELS)

    def unavailable(self) -> Check | None:
        check = radgraph_files(self.model)
        return None if check.status == "ok" else check

    def measure(self, reports: ReportSet) -> Sums:
        truths, predictions = true_texts(reports), predicted_texts(reports)
        rows = radgraph_rows(truths=truths, predictions=predictions, model=self.model, device=self.device)
        return Sums(np.stack([*(rows.scores[level] for level in LEVELS), np.ones(len(reports))], axis=1), means)


def _definition(level: str, model: str, constructed: bool) -> Definition:
    return Definition(
        name=f"radgraph_{level}_f1",
        title=f"RadGraph F1, {level} ({model})",
        averages_over="reports",
        definition=f"Mean over reports of the F1 of the entities that {model} finds in them; entities agree in "
        f"{_AGREEMENT[level]}.",
        weakness=weakness(_WEAKNESS, constructed),
        caution=caution("a model reads both texts; style moves it", constructed),
        undefined="no report was scored",
        invariants=frozenset({Invariant.PERFECT_IS_BEST, Invariant.LISTING_DOES_NOT_WIN}),
    )
