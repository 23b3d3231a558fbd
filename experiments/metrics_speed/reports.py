"""Pairs of reports as an evaluation on PadChest would give them: as long, with as many findings, none of them real."""

from __future__ import annotations

import numpy as np

from xrayexp.data.report import NORMAL, Finding, Report
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.structured.relevance import Relevance

PLACES = ("left", "right", "bilateral", "basal", "apical", "hilar", "cardiac", "pleural", "aortic", "perihilar")
NORMAL_SHARE, LOCATED, UNPARSEABLE, RIGHT = 0.33, 0.6, 0.02, 0.6


def random_pairs(reports: int, patients: int, seed: int) -> list[ScoredReport]:
    """True and predicted reports of PadChest's 190 findings, the frequent ones first by Zipf's law.

    Args:
        reports: how many.
        patients: they belong to, each at least one.
        seed: decides everything.
    """
    generator = np.random.default_rng(seed)
    names = sorted(set(Relevance().class_of) - {NORMAL})
    frequencies = 1 / np.arange(1, len(names) + 1)
    frequencies /= frequencies.sum()

    def draw() -> Report:
        if generator.random() < NORMAL_SHARE:
            return Report((Finding(NORMAL),))
        chosen = generator.choice(len(names), size=1 + generator.poisson(1.4), p=frequencies)
        return Report(
            tuple(
                Finding(names[index], (PLACES[generator.integers(len(PLACES))],) * int(generator.random() < LOCATED))
                for index in chosen
            )
        )

    pairs = []
    for index in range(reports):
        truth = draw()
        predicted = truth if generator.random() < RIGHT else draw()
        parsed = None if generator.random() < UNPARSEABLE else predicted
        patient = f"patient {index % patients}"
        pairs.append(ScoredReport(image_id=f"image {index}", patient_id=patient, truth=truth, predicted=parsed))
    return pairs
