"""A baseline: it learns from training images and reports, and answers about images whose truth it never sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

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
        image: of the ids of both.
        validation: of the validation split, for thresholds and the like; may be empty.
    """

    examples: Sequence[Example]
    image: Image
    validation: Sequence[Example] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about; no truth is in it.

    Attributes:
        image_ids: each once.
        image: of these ids.
        data: the name of their data set in conf/data/.
    """

    image_ids: Sequence[str]
    image: Image
    data: str = ""


class Baseline(ABC):
    """One baseline, chosen by conf/baseline/. Making one costs nothing."""

    def check(self, training: Training, asked: Asked) -> None:  # noqa: B027  # most need nothing
        """Looks for what the baseline needs, before anything slow.

        Raises:
            UserError: it is not there.
        """

    @abstractmethod
    def answers(self, training: Training, asked: Asked) -> Iterator[tuple[str, Report]]:
        """The report of every image that is asked about, in order; of an image that cannot be read, none."""
