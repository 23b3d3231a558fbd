"""The config section of the memory room."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class MemorySection:
    """`memory`: what a run may take of its GPU.

    Attributes:
        name: short name, for tables.
        budget_gib: memory of the card; a run that is predicted to need more does not start. None: nothing is
            predicted.
        supervised_tokens: of the longest sample, those of its report; None for all that are no image tokens.
        cache_dir: folder where predictions are kept; None to predict anew.
        expandable_segments: let torch's allocator grow its segments on a GPU, which leaves less memory unused.
    """

    name: str
    budget_gib: float | None
    supervised_tokens: int | None
    cache_dir: str | None
    expandable_segments: bool = True

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = []
        if self.budget_gib is not None and not self.budget_gib > 0:
            found.append(f"memory.budget_gib must be above 0 or null, not {self.budget_gib}")
        if self.supervised_tokens is not None and self.supervised_tokens < 1:
            found.append(f"memory.supervised_tokens must be at least 1 or null, not {self.supervised_tokens}")
        return found
