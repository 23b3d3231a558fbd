"""PadChest's labels: from the columns' text to sentences, and from sentences to findings.

Source: Bustos et al., PadChest (arXiv 1901.07441), column `LabelsLocalizationsBySentence`. It has two
formats, told apart by `MethodLabel`:

* Physician: a list of sentences, `[['pneumonia', 'loc left'], [], nan]`.
* RNN_model: one flat list, `['consolidation', ' pneumonia', 'loc left', '', 'normal']`, where a label
  without leading blank opens a sentence, one with a leading blank continues it, a location belongs to
  the open sentence, and '' is a sentence without label. So blanks are stripped only after grouping.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from xrayexp.data.report import NORMAL, STATUSES, Finding
from xrayexp.errors import DataError

__all__ = [
    "NORMAL",
    "PHYSICIAN",
    "RNN_MODEL",
    "STATUSES",
    "Sentence",
    "findings_of",
    "parse_cuis",
    "parse_labels",
    "parse_sentences",
]

PHYSICIAN = "Physician"
RNN_MODEL = "RNN_model"

# With the blank: "loculated pleural effusion" is a finding.
_LOCATION_PREFIX = "loc "
_CUI = re.compile(r"\bC\d{7}\b")
_SIDED = re.compile(r"(?P<name>.+) (?:(?P<side>left|right|both) sides?|bilateral)")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a report: its labels (findings, 'normal', statuses) and the places it names.

    Attributes:
        labels: lower case, each once, in order.
        locations: lower case, without the "loc " prefix, each once, in order.
    """

    labels: tuple[str, ...]
    locations: tuple[str, ...]


def parse_sentences(text: str, method: str) -> tuple[Sentence, ...]:
    """Parse `LabelsLocalizationsBySentence` of a row whose `MethodLabel` is `method`.

    Sentences without labels are kept, empty, so that the places they name attach to nothing.

    Raises:
        DataError: the method is unknown, or the text is not a list of the method's form.
    """
    if method == PHYSICIAN:
        groups = [_strings(_elements(node)) for node in _parse_list(text)]
    elif method == RNN_MODEL:
        groups = _group_flat(_strings(_parse_list(text)))
    else:
        raise DataError(f"Unknown MethodLabel {method!r}: expected {PHYSICIAN} or {RNN_MODEL}.")
    return tuple(_sentence(group) for group in groups)


def parse_labels(text: str) -> tuple[str, ...]:
    """Parse the column `Labels`: lower case, each once, in order, without empty ones.

    Raises:
        DataError: the text is not a list of strings.
    """
    return _sentence(_strings(_parse_list(text))).labels


def parse_cuis(text: str) -> tuple[str, ...]:
    """The UMLS concepts in a cell of `labelCUIS` or `LocalizationsCUIS`, in order.

    The cells are arrays as numpy prints them, with line breaks and without commas: read as Python, neighbours would
    become one string. They do not stand one to one with the labels.
    """
    return tuple(_CUI.findall(text))


def findings_of(sentences: Iterable[Sentence]) -> tuple[Finding, ...]:
    """The findings that the sentences state, each (name, locations) once, in order.

    * Every finding of a sentence gets that sentence's locations, and no other's.
    * Statuses are not findings. A sentence without finding gives none, whatever places it names.
    * A side inside a label moves to its locations: 'hemidiaphragm elevation left side' is
      'hemidiaphragm elevation' at 'left'. `Labels` names it so, and no other vocabulary is needed.
    * 'normal' counts only when no sentence states a finding, which would contradict it, and carries no
      locations: those of a normal sentence are healthy structures.
    """
    sentences = tuple(sentences)
    abnormal = tuple(dict.fromkeys(finding for sentence in sentences for finding in _abnormal(sentence)))
    if not abnormal and any(NORMAL in sentence.labels for sentence in sentences):
        return (Finding(NORMAL),)
    return abnormal


def _abnormal(sentence: Sentence) -> Iterator[Finding]:
    for label in sentence.labels:
        if label == NORMAL or label in STATUSES:
            continue
        name, sides = _split_side(label)
        yield Finding(name, tuple(dict.fromkeys((*sentence.locations, *sides))))


def _split_side(label: str) -> tuple[str, tuple[str, ...]]:
    match = _SIDED.fullmatch(label)
    if match is None:
        return label, ()
    side = match["side"]
    return match["name"], (side if side in ("left", "right") else "bilateral",)


def _group_flat(items: Sequence[str]) -> list[list[str]]:
    groups: list[list[str]] = []
    for item in items:
        if groups and item.startswith((" ", _LOCATION_PREFIX)):
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _sentence(items: Iterable[str]) -> Sentence:
    cleaned = dict.fromkeys(item.strip().lower() for item in items)
    places = [item for item in cleaned if item.startswith(_LOCATION_PREFIX)]
    return Sentence(
        labels=tuple(item for item in cleaned if item and item not in places),
        locations=tuple(item.removeprefix(_LOCATION_PREFIX).lstrip() for item in places),
    )


def _parse_list(text: str) -> list[ast.expr]:
    """The elements of a list literal. `ast.literal_eval` would refuse PadChest's bare `nan`."""
    try:
        return _elements(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"Not a PadChest list of labels: {text[:80]!r}") from error


def _elements(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.List):
        return node.elts
    if _is_nan(node):
        return []
    raise DataError(f"Not a PadChest list of labels: {ast.unparse(node)[:80]!r}")


def _strings(nodes: Iterable[ast.expr]) -> list[str]:
    return [_string(node) for node in nodes]


def _string(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if _is_nan(node):
        return ""
    raise DataError(f"Not a PadChest label: {ast.unparse(node)[:80]!r}")


def _is_nan(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "nan"
