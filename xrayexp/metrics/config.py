"""The config section of the metrics room."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class MetricsSection:
    """`metrics`: intervals of the final evaluation.

    Attributes:
        bootstrap: resamples behind every interval; 0 for none.
        confidence: of the intervals.
        seed: of the resamples.
    """

    bootstrap: int
    confidence: float
    seed: int

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        if self.bootstrap < 0:
            found.append(f"metrics.bootstrap must be at least 0, not {self.bootstrap}")
        if not 0 < self.confidence < 1:
            found.append(f"metrics.confidence must be between 0 and 1, not {self.confidence}")
        if self.seed < 0:
            found.append(f"metrics.seed must be at least 0, not {self.seed}")
        return found
