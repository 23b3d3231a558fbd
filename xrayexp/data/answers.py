"""How a model's words are read: one small class per form of answer, chosen by conf/prompt/."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xrayexp.data.box_answers import BoxAnswer, parse_box_answer, without_thinking
from xrayexp.data.report import NORMAL, Finding, Report, name_spans, parse_report
from xrayexp.errors import DataError

PHRASES = Path(__file__).with_name("phrases.csv")
"""Columns: `name`, one of PadChest's, and `phrases` of English reports for it, separated by "; "."""

_CLAUSE = re.compile(r"[.;:\n]|\b(?:but|however|although|except|otherwise)\b")
# NegEx (Chapman et al. 2001), as far as reports of chest X-rays need it.
_DENIED_AFTER = re.compile(
    r"\b(?:no|not|without|negative for|free of|absence of|absent|resolved|resolution of|rather than)\b"
)
_DENIED_BEFORE = re.compile(
    r"\b(?:(?:is|are|was|were) (?:not|no longer)|not (?:seen|identified|present)|absent|resolved|ruled out)\b"
)
_HEALTHY = re.compile(r"\b(?:normal|unremarkable|clear|no (?:acute|abnormal|significant|evidence|focal|active))\b")
_BULLET = re.compile(r"^[\s\-*\d.)]+")


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says.

    Attributes:
        report: None for an answer that could not be read.
        boxes: None where the form has none, or the answer could not be read.
        spans: by name of a finding of the report, the first and the end of its characters in the text; None where the
            form does not know.
    """

    report: Report | None
    boxes: BoxAnswer | None = None
    spans: Mapping[str, tuple[int, int]] | None = None


class AnswerForm(Protocol):
    """Reads answers of one form."""

    @property
    def draws_boxes(self) -> bool:
        """Whether answers of this form say where findings lie."""
        ...

    def read(self, text: str, names: Iterable[str]) -> Reading:
        """What an answer says; never fails.

        Args:
            text: as the model wrote it.
            names: the findings that the data set can state.
        """
        ...


class ReportForm:
    """This project's reports, see `xrayexp.data.report`."""

    draws_boxes = False

    def read(self, text: str, names: Iterable[str]) -> Reading:
        """As `parse_report` does."""
        report = parse_report(text)
        return Reading(report, spans={} if report is None else name_spans(text))


class NameList:
    """Names of findings, separated by commas or lines, in any case; "none" and "normal" say that the chest is normal.

    What is no known name is taken as it stands, so that inventions count; a sentence is none: an entry of more words
    than any name makes the answer unreadable.
    """

    draws_boxes = False

    def read(self, text: str, names: Iterable[str]) -> Reading:
        """The names in the order of the answer."""
        longest = max((len(name.split()) for name in names), default=0)
        entries = [
            _BULLET.sub("", part).strip(" .*`'\"").lower() for part in re.split(r"[,\n]", without_thinking(text))
        ]
        entries = [entry for entry in entries if entry]
        if not entries or any(len(entry.split()) > max(longest, 1) for entry in entries):
            return Reading(None)
        found = dict.fromkeys(entry for entry in entries if entry not in (NORMAL, "none", "no finding"))
        return Reading(Report(tuple(Finding(name) for name in found) or (Finding(NORMAL),)))


class EnglishReport:
    """A radiologist's English: phrases that stand for findings, unless they are denied in their clause.

    What is uncertain ("possible", "may represent") counts as stated, as in CheXbert's F1 for generated reports. A
    report that states no finding is normal when it says so, and otherwise could not be read.

    Args:
        file: a CSV like `PHRASES`; None for that.

    Raises:
        DataError: the file cannot be read.
    """

    draws_boxes = False

    def __init__(self, file: str | None = None) -> None:
        self._names = _phrases(PHRASES if file is None else Path(file))
        longest_first = sorted(self._names, key=len, reverse=True)
        self._phrase = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})(?:e?s)?\b")

    def read(self, text: str, names: Iterable[str]) -> Reading:
        """The findings in the order of the report."""
        text = without_thinking(text).lower()
        found = dict.fromkeys(name for clause in _CLAUSE.split(text) for name in self._stated(clause))
        if not found:
            return Reading(Report((Finding(NORMAL),)) if _HEALTHY.search(text) else None)
        return Reading(Report(tuple(Finding(name) for name in found)))

    def _stated(self, clause: str) -> Iterator[str]:
        for match in self._phrase.finditer(clause):
            before, after = clause[: match.start()], clause[match.end() :]
            if not _DENIED_AFTER.search(before) and not _DENIED_BEFORE.search(after):
                yield self._name(match[0])

    def _name(self, phrase: str) -> str:
        """Of the phrase or of its singular."""
        return next(
            self._names[p] for p in (phrase, phrase.removesuffix("s"), phrase.removesuffix("es")) if p in self._names
        )


class MedGemmaBoxes:
    """MedGemma 1.5's list of boxes, see `xrayexp.data.box_answers`; an empty list says that the chest is normal.

    A label is the finding whose name it holds ("large left pleural effusion" is pleural effusion), the longest of
    several; where it holds none, it stands for itself.
    """

    draws_boxes = True

    def read(self, text: str, names: Iterable[str]) -> Reading:
        """The findings in the order of the list."""
        answer = parse_box_answer(text)
        if answer is None:
            return Reading(None)
        # Whole words: "massive" is no mass, and what is abnormal not normal.
        known = [
            (name, re.compile(rf"\b{re.escape(name)}(?:e?s)?\b"))
            for name in sorted(names, key=len, reverse=True)
            if name != NORMAL
        ]
        labels = tuple(next((name for name, words in known if words.search(label)), label) for label in answer.labels)
        findings = tuple(Finding(name) for name in dict.fromkeys(labels)) or (Finding(NORMAL),)
        return Reading(Report(findings), BoxAnswer(labels, answer.values, answer.malformed))


def _phrases(path: Path) -> Mapping[str, str]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                phrase: row["name"]
                for row in csv.DictReader(file)
                for phrase in (row["name"], *filter(None, row["phrases"].split("; ")))
            }
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV with the columns name and phrases ({error})") from error
