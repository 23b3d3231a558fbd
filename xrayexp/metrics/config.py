"""The config section of the metrics room."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xrayexp.errors import ConfigError
from xrayexp.metrics.base import Metric
from xrayexp.metrics.registry import build
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import missing, score

log = logging.getLogger(__name__)


@dataclass
class MetricsSection:
    """`metrics`: what the final evaluation computes.

    Attributes:
        bootstrap: resamples behind every interval; 0 for none.
        confidence: of the intervals.
        seed: of the resamples.
        scores: a metric each, by any key, as something that Hydra can instantiate; null switches one off.
    """

    bootstrap: int
    confidence: float
    seed: int
    scores: dict[str, Any]

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        if self.bootstrap < 0:
            found.append(f"metrics.bootstrap must be at least 0, not {self.bootstrap}")
        if not 0 < self.confidence < 1:
            found.append(f"metrics.confidence must be between 0 and 1, not {self.confidence}")
        if self.seed < 0:
            found.append(f"metrics.seed must be at least 0, not {self.seed}")
        try:
            self.metrics()
        except ConfigError as error:
            found += error.problems
        return found

    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, which load nothing yet.

        Raises:
            ConfigError: one cannot be made.
        """
        return build(self.scores)

    def announce_missing(self) -> None:
        """Tells of metrics that will be left out while there is still time to fetch what they need."""
        for metric in missing(self.metrics()):
            log.warning("%s", metric)

    def score(self, reports: Sequence[ScoredReport], training_shares: Mapping[str, float] | None) -> Scores:
        """Scores reports as the section says; the arguments are those of `scoring.score`."""
        return score(
            reports,
            self.metrics(),
            training_shares=training_shares,
            bootstrap=self.bootstrap,
            confidence=self.confidence,
            seed=self.seed,
        )
