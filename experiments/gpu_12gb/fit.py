"""The predictor's constants from what a GPU measured."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from experiments.gpu_12gb.rows import allocated, is_compared, is_of_a_gpu
from experiments.results import Results, Values
from xrayexp.entry import USER_ERROR
from xrayexp.errors import UserError
from xrayexp.memory.plan import CONSTANTS, ENOUGH, Constants

FEWEST = 6  # settings that a fit takes
BOUND = 0.05  # error that it may leave


def fitted(recordings: Sequence[Results]) -> Constants:
    """The constants that explain what was measured.

    The workspaces are what all settings have beyond their traces: the constant with the least squared error, that is
    the mean, and not below 0. The context is the largest one seen, since a plan that says too little misleads.

    Args:
        recordings: of one GPU or of several.

    Raises:
        UserError: they are not of the full-size model on a GPU, are too few, or no constant explains them.
    """
    if not recordings or not all(is_of_a_gpu(results.values) for results in recordings):
        raise UserError("constants are fitted to the full-size model on a GPU, and these results are of something else")
    rows = [values for results in recordings for values in results.values.values() if is_compared(values)]
    if len(rows) < FEWEST:
        raise UserError(f"{len(rows)} settings were measured and predicted: {FEWEST} are needed at least")
    workspace = max(0.0, fmean(allocated(values) - _traced(values) for values in rows))
    context = max(values["measured"]["context"] for values in rows)
    cards = sorted({values["device"] for values in rows})
    found = Constants(math.ceil(100 * context) / 100, round(workspace, 3), tuple(cards))
    if (left := largest_error(rows, found)) > BOUND:
        raise UserError(
            f"with the best constants a prediction is still off by {left:.1%}, more than {BOUND:.0%}: the trace lacks "
            "something that is no constant, and plans stay estimates"
        )
    return found


def _traced(values: Values) -> float:
    predicted = values["predicted"]
    return float(predicted["allocated"] - predicted["parts"]["workspaces"])


def largest_error(rows: Sequence[Values], constants: Constants) -> float:
    """Of the peak of tensors, as a share of what was measured."""
    return max(abs((_traced(row) + constants.workspace_gib) / allocated(row) - 1) for row in rows)


def fit(arguments: Sequence[str]) -> None:
    """`run.py fit RESULTS ...`: writes the constants; ends with exit code 2 for what the user can fix."""
    parser = argparse.ArgumentParser(prog="experiments/gpu_12gb/run.py fit", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="results.json of a run on a GPU")
    parser.add_argument("--to", type=Path, default=CONSTANTS, metavar="FILE", help="default: the package's own")
    options = parser.parse_args(arguments)
    try:
        recordings = [Results.read(file) for file in options.results]
        found = fitted(recordings)
    except (OSError, ValueError, TypeError) as error:
        parser.exit(USER_ERROR, f"error: the results cannot be read: {error}\n")
    except UserError as error:
        parser.exit(USER_ERROR, f"error: {error}\n")
    found.write(options.to)
    rows = [values for results in recordings for values in results.values.values() if is_compared(values)]
    ratio = max(values["measured"]["reserved"] / values["predicted"]["reserved"] for values in rows)
    print(
        f"context {found.context_gib:g} GiB, workspaces {found.workspace_gib:g} GiB, {', '.join(found.calibrated_on)}"
    )
    print(f"predicted peaks of {len(rows)} settings are within {largest_error(rows, found):.1%}")
    print(f"at most {ratio:.2f} times what was predicted is reserved (the verdict allows for {ENOUGH:g})")
    print(f"written to {options.to}")
