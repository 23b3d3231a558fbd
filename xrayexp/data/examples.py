"""Examples: what one image should be reported as, and where tables and images come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from xrayexp.data import table as columns
from xrayexp.data.labels import findings_of, parse_sentences
from xrayexp.data.report import Finding
from xrayexp.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Example:
    """One image and the findings that its report states, at least one."""

    image_id: str
    patient_id: str
    study_id: str
    findings: tuple[Finding, ...]


class Source(Protocol):
    """Where the rows and the pixels of a data set come from."""

    def table(self) -> pd.DataFrame:
        """One row per usable image, with PadChest's columns."""
        ...

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image, [height, width]."""
        ...


def examples_from_table(table: pd.DataFrame) -> list[Example]:
    """One example per row, in order. Which rows are usable is the caller's decision: none is skipped here.

    Raises:
        DataError: columns are missing, a row cannot be parsed, or rows have no finding. Names the ImageIDs.
    """
    wanted = [columns.IMAGE, columns.PATIENT, columns.STUDY, columns.METHOD, columns.SENTENCES]
    columns.require_columns(table, wanted)
    findings_in = _findings_reader()
    examples = []
    for image, patient, study, method, sentences in table[wanted].itertuples(index=False, name=None):
        findings = _findings(image, method, sentences, findings_in)
        examples.append(Example(str(image), str(patient), str(study), findings))
    without = [example.image_id for example in examples if not example.findings]
    if without:
        raise DataError(f"{len(without)} images have no finding to report: {columns.listed(without)}.")
    return examples


def _findings_reader() -> Callable[[str, str], tuple[Finding, ...]]:
    """A parser that remembers: two thirds of PadChest's rows repeat the labels of another row."""

    @cache
    def findings_in(sentences: str, method: str) -> tuple[Finding, ...]:
        return findings_of(parse_sentences(sentences, method))

    return findings_in


def _findings(
    image: object, method: object, sentences: object, findings_in: Callable[[str, str], tuple[Finding, ...]]
) -> tuple[Finding, ...]:
    """The findings of one row; none where the column is empty (NaN), as in rows that nobody labelled."""
    if not isinstance(sentences, str):
        return ()
    try:
        return findings_in(sentences, str(method))
    except DataError as error:
        raise DataError(f"Image {image}: {error}") from error
