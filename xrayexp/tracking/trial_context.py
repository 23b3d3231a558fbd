"""Which trial of a sweep this process works on, for loggers that name and group its run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from xrayexp.tracking.public import public_text

VARIABLE = "XRAYEXP_TRIAL"  # of the environment, set by the sweep for the process of a trial
SWEEP = "sweep"  # tag of all runs of a sweep, and the type of the one that sums it up


@dataclass(frozen=True, slots=True)
class TrialContext:
    """One trial.

    Attributes:
        sweep: name of the study, as strangers may see it.
        number: of the trial in the study, from 0.
    """

    sweep: str
    number: int


def current_trial() -> TrialContext | None:
    """The trial of this process; None outside of a sweep."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    trial = json.loads(text)
    return TrialContext(sweep=public_text(trial["name"]), number=trial["number"])
