"""A baseline: it learns from training images and reports, and answers about images whose truth it never sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xrayexp.data.examples import Example
    from xrayexp.data.report import Report

Image: TypeAlias = "Callable[[str], NDArray[np.uint8]]"
"""The image of an id as the model would get it, [height, width]; raises DataError where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Training:
    """What may be learnt from.

    Attributes:
        examples: of the training split, at least one.
        image: of their ids.
    """

    examples: Sequence[Example]
    image: Image


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about; no truth is in it.

    Attributes:
        image_ids: each once.
        image: of these ids.
    """

    image_ids: Sequence[str]
    image: Image


class Baseline(Protocol):
    """One baseline, chosen by conf/baseline/. Making one costs nothing."""

    def answers(self, training: Training, asked: Asked) -> Iterator[tuple[str, Report]]:
        """The report of every image that is asked about, in order; of an image that cannot be read, none."""
        ...
