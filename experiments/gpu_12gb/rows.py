"""What the values of a row say: shared by the claims, the figure and the fit."""

from __future__ import annotations

from experiments.gpu_12gb.settings import FULL
from experiments.results import Rows, Values


def is_of_a_gpu(rows: Rows) -> bool:
    """Whether all rows are the full-size model's on a GPU."""
    return all(values["on"] == "cuda" and values["model"] == FULL for values in rows.values())


def is_compared(values: Values) -> bool:
    """Whether there is a prediction, and a measurement beside it."""
    return bool(values["predicted"] and values.get("measured"))


def allocated(values: Values) -> float:
    """The measured peak of tensors, in GiB: torch's, and the optimiser's pages, which the prediction counts too."""
    measured = values["measured"]
    return float(measured["allocated"] + measured["paged"])


def error(values: Values) -> float:
    """How much more was predicted than measured, as a share of the latter."""
    return float(values["predicted"]["allocated"]) / allocated(values) - 1
