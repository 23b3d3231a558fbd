"""From traces to a forecast: does a training fit on a card, what takes its memory, and what would fit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from xrayexp.memory.allocator import reserved_peak
from xrayexp.memory.measure import GIB
from xrayexp.memory.trace import Recording

Verdict = Literal["fits", "risky", "does not fit"]

# Margins of the verdict. Live tensors cannot be moved, so that a little less than they take is too much for certain;
# what is reserved beyond them can partly be given back.
TOO_MUCH, ENOUGH = 0.95, 1.10

CONSTANTS = Path(__file__).with_name("constants.json")  # written by experiments/gpu_12gb/run.py fit


@dataclass(frozen=True)
class Constants:
    """What a process takes of a GPU beside torch's allocator.

    Attributes:
        context_gib: the CUDA context and the libraries' kernels.
        workspace_gib: cuBLAS's workspaces, allocated by torch, once.
        calibrated_on: the GPUs on which these were measured; empty while they are estimates.
    """

    context_gib: float
    workspace_gib: float
    calibrated_on: tuple[str, ...]

    @classmethod
    def read(cls) -> Constants:
        """Those that ship with the package."""
        stored = json.loads(CONSTANTS.read_text(encoding="utf-8"))
        return cls(stored["context_gib"], stored["workspace_gib"], tuple(stored["calibrated_on"]))

    def write(self, file: Path) -> None:
        """As `read` reads them."""
        file.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Peak:
    """The most memory of one activity, in GiB.

    Attributes:
        allocated: by tensors, as torch.cuda.max_memory_allocated reports it.
        reserved: by torch's allocator.
        parts: what lives at the peak, by kind; they add up to `allocated`.
    """

    allocated: float
    reserved: float
    parts: dict[str, float]

    @classmethod
    def of(cls, recording: Recording, constants: Constants, *, expandable_segments: bool = False) -> Peak:
        """Counts a recording, with the workspaces that no trace shows."""
        parts = {name: size / GIB for name, size in recording.at_peak.items() if size > 0}
        parts["workspaces"] = constants.workspace_gib
        reserved = reserved_peak(recording.events, expandable_segments=expandable_segments) / GIB
        reserved += constants.workspace_gib
        return cls(recording.peak / GIB + constants.workspace_gib, reserved, parts)


@dataclass(frozen=True)
class Forecast:
    """What a training is predicted to need.

    Attributes:
        training: one step in its steady state.
        generation: one round of validation between two steps, the cache at its full length.
        context_gib: see `Constants`.
        calibrated_on: see `Constants`.
    """

    training: Peak
    generation: Peak
    context_gib: float
    calibrated_on: tuple[str, ...]

    @property
    def worst(self) -> Peak:
        """The larger of both."""
        return max(self.training, self.generation, key=lambda peak: peak.allocated)

    @property
    def card_gib(self) -> float:
        """What a card shows as used at the peak: the allocator's share and the context."""
        return max(self.training.reserved, self.generation.reserved) + self.context_gib

    def excess_gib(self, budget_gib: float) -> float:
        """What it needs for certain beyond a card of `budget_gib`; 0 or less where it may fit."""
        return TOO_MUCH * self.worst.allocated + self.context_gib - budget_gib

    def verdict(self, budget_gib: float) -> Verdict:
        """Whether it fits on a card of `budget_gib`."""
        room = budget_gib - self.context_gib
        if self.excess_gib(budget_gib) > 0:
            return "does not fit"
        if ENOUGH * max(self.training.reserved, self.generation.reserved) <= room:
            return "fits"
        return "risky"

    def rules_out(self, kinds: Iterable[str], budget_gib: float) -> bool:
        """Whether these kinds of what lives at the peak of training are too much alone, whatever the others take."""
        return ENOUGH * sum(self.training.parts.get(kind, 0.0) for kind in kinds) > budget_gib - self.context_gib

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Forecast:
        """Undoes `to_json`."""
        return cls(
            Peak(**stored["training"]),
            Peak(**stored["generation"]),
            stored["context_gib"],
            tuple(stored["calibrated_on"]),
        )
