"""Examples: what one image should be reported as, and where tables and images come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from xrayexp.data import table as columns
from xrayexp.data.labels import PHYSICIAN, findings_of, parse_sentences
from xrayexp.data.report import Finding
from xrayexp.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from xrayexp.data.boxes import TrueBoxes
    from xrayexp.data.vocabulary import Vocabulary

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Example:
    """One image and the findings that its report states, at least one.

    Attributes:
        method: who labelled it, PadChest's `MethodLabel`.
        provenance: how a synthetic image came about; None for a real one.
        unknown: names of findings of which nothing is known.
        text: a radiologist's report; None where there is none but the findings.
    """

    image_id: str
    patient_id: str
    study_id: str
    findings: tuple[Finding, ...]
    method: str = PHYSICIAN
    provenance: str | None = None
    unknown: frozenset[str] = frozenset()
    text: str | None = None


def finding_shares(examples: Sequence[Example]) -> dict[str, float]:
    """Share of the examples in which each finding is true."""
    times = Counter(name for example in examples for name in {finding.name for finding in example.findings})
    return {name: count / len(examples) for name, count in times.items()}


class Source(Protocol):
    """Where the rows and the pixels of a data set come from."""

    @property
    def origin(self) -> str:
        """What all its images depend on: their folder, or how they are made. Another origin has other images."""
        ...

    def version(self, image_id: str) -> str:
        """Changes when the image does, and is found out without reading it."""
        ...

    def table(self) -> pd.DataFrame:
        """One row per usable image, with PadChest's columns."""
        ...

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image, [height, width]."""
        ...

    def absent(self, image_ids: Sequence[str]) -> Mapping[str, str]:
        """Which of these images cannot be had, and why, as far as that is known without opening them."""
        ...


@runtime_checkable
class BoxedSource(Protocol):
    """A source that knows where findings lie."""

    def shape(self, image_id: str) -> tuple[int, int]:
        """Height and width of an image file, in pixels."""
        ...

    def boxes(self, image_id: str) -> TrueBoxes | None:
        """The true boxes of an image, in the file's pixels; None where nobody drew any."""
        ...


def vocabulary_of(source: Source) -> Vocabulary | None:
    """What a source's labels can state, where these are not PadChest's."""
    vocabulary: Vocabulary | None = getattr(source, "vocabulary", None)
    return vocabulary


def examples_from_table(table: pd.DataFrame) -> list[Example]:
    """One example per row, in order. Which rows are usable is the caller's decision: none is skipped here.

    The findings are those of the column `FINDINGS` where the source has filled it, else read from the sentences.

    Raises:
        DataError: columns are missing, a row cannot be parsed, or rows have no finding. Names the ImageIDs.
    """
    wanted = [columns.IMAGE, columns.PATIENT, columns.STUDY, columns.METHOD]
    columns.require_columns(table, wanted)
    found = table[columns.FINDINGS] if columns.FINDINGS in table else read_findings(table)
    origins, texts, unknown = (
        table[column] if column in table else [None] * len(table)
        for column in (columns.PROVENANCE, columns.TEXT, columns.UNKNOWN)
    )
    rows = table[wanted].astype(str).itertuples(index=False, name=None)
    examples = [
        Example(
            *(image, patient, study, findings, method),
            provenance=provenance if isinstance(provenance, str) else None,
            unknown=names or frozenset(),
            text=text if isinstance(text, str) else None,
        )
        for (image, patient, study, method), findings, provenance, text, names in zip(
            rows, found, origins, texts, unknown, strict=True
        )
    ]
    without = [example.image_id for example in examples if not example.findings]
    if without:
        raise DataError(f"{len(without)} images have no finding to report: {columns.listed(without)}.")
    return examples


def read_findings(table: pd.DataFrame) -> pd.Series[Any]:
    """The findings of each row, from PadChest's sentences; none where nobody labelled the row.

    Raises:
        DataError: columns are missing, or a row cannot be parsed. Names the ImageID.
    """
    import pandas as pd

    def findings_in(sentences: object, method: object) -> tuple[Finding, ...]:
        return findings_of(parse_sentences(sentences, str(method))) if isinstance(sentences, str) else ()

    found = parse_rows(table, [columns.SENTENCES, columns.METHOD], findings_in)
    return pd.Series(found, index=table.index, dtype=object)


def parse_rows(table: pd.DataFrame, wanted: Sequence[str], parse: Callable[..., Parsed]) -> list[Parsed]:
    """What a parser makes of some columns, row by row. It must be pure: two thirds of PadChest's rows repeat another's.

    Raises:
        DataError: columns are missing, or the parser's own. Names the ImageID and the column.
    """
    columns.require_columns(table, [columns.IMAGE, *wanted])
    remembering = cache(parse)
    parsed = []
    for image, *values in table[[columns.IMAGE, *wanted]].itertuples(index=False, name=None):
        try:
            parsed.append(remembering(*values))
        except DataError as error:
            raise DataError(f"image {image}, {wanted[0]}: {error}") from error
    return parsed
