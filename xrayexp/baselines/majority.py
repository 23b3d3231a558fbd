"""The most frequent report of the training split, for every image: what a score owes to the frequency of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from xrayexp.baselines.base import Asked, Baseline, Training
from xrayexp.data.report import Report


class Majority(Baseline):
    """A whole report, findings and places: the single most frequent finding of chest X-rays is `normal` as well.

    Of several reports that are equally frequent, the one that comes first in the training split.
    """

    def answers(self, training: Training, asked: Asked) -> Iterator[tuple[str, Report]]:
        """The same for each."""
        [(findings, _)] = Counter(example.findings for example in training.examples).most_common(1)
        for image_id in asked.image_ids:
            yield image_id, Report(findings)
