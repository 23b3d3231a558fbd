"""Validation examples that a person can look at, as a capability that a logger has or has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ExampleRow:
    """One image with what it shows and what the model said.

    Attributes:
        image_id: as in the label table.
        image: grey values, [height, width].
        truth: the true report, as text.
        prediction: the generated report, as text.
        missed: findings that are true and not named.
        invented: findings that are named and not true.
    """

    image_id: str
    image: NDArray[np.uint8]
    truth: str
    prediction: str
    missed: tuple[str, ...]
    invented: tuple[str, ...]


@runtime_checkable
class ExampleLogger(Protocol):
    """A logger that can show examples: `if isinstance(logger, ExampleLogger): logger.log_examples(step, rows)`."""

    def log_examples(self, step: int, examples: Sequence[ExampleRow]) -> None:
        """Shows the examples as they were at an optimiser step."""
        ...
