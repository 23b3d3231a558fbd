"""The report that a model learns to write, and the parser that reads it back.

    FINDINGS:
    - pleural effusion (left, costophrenic angle)
    - cardiomegaly (cardiac)

    LOCATIONS:
    left, costophrenic angle, cardiac

    IMPRESSION:
    Pleural effusion, cardiomegaly.

It is short because it is generated token by token. FINDINGS alone carries the content: each location
stands with its own finding. LOCATIONS and IMPRESSION repeat it in the form that readers expect, and
nothing is read back from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from xrayexp.errors import DataError

_Item = TypeVar("_Item")

NORMAL = "normal"
STATUSES = frozenset({"exclude", "unchanged", "suboptimal study"})
"""PadChest labels about the reading or the study, which nobody can state from one image."""

HEADERS = ("FINDINGS:", "LOCATIONS:", "IMPRESSION:")
NO_LOCATION = "none"
NORMAL_IMPRESSION = "Normal chest."

# MedGemma 1.5 may think aloud first, between these two tokens, even when it was not asked to.
_THINKING = re.compile(r"\A\s*<unused94>.*?<unused95>", re.DOTALL)
_FINDING_LINE = re.compile(r"-\s+(?P<name>[^()]+?)\s*(?:\((?P<locations>[^()]*)\))?")


class ReportError(DataError):
    """Findings that no report can state, or that could not be read back from one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding and where it lies.

    Attributes:
        name: PadChest's label in lower case.
        locations: PadChest's locations without the "loc " prefix, in the order of the sentence.
    """

    name: str
    locations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of one report, in order, each (name, locations) once."""

    findings: tuple[Finding, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of the findings."""
        return frozenset(finding.name for finding in self.findings)

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Every (finding, location); a finding without location adds none."""
        return frozenset((finding.name, place) for finding in self.findings for place in finding.locations)

    @property
    def locations(self) -> tuple[str, ...]:
        """The locations of all findings, each once, in order of first mention."""
        return _once(place for finding in self.findings for place in finding.locations)


def write_report(findings: Sequence[Finding]) -> str:
    """Write findings as a report, without a final newline.

    Findings keep their order; an exact repetition is left out, while the same finding in two places is
    two lines. The impression is constructed from the names: PadChest has no English impression, so it
    holds nothing that a radiologist concluded.

    Raises:
        ReportError: there is no finding; a label is a status; 'normal' has a location or stands beside
            a finding; or a label or location could not be read back from the text. Names the label.
    """
    report = Report(_once(findings))
    _check(report)
    lines = [_finding_line(finding) for finding in report.findings]
    locations = ", ".join(report.locations) or NO_LOCATION
    bodies = ("\n".join(lines), locations, _impression(report))
    return "\n\n".join(f"{header}\n{body}" for header, body in zip(HEADERS, bodies, strict=True))


def parse_report(text: str) -> Report | None:
    """Read a report back, or return None for text that is not one.

    Required: the three headers, each on its own line, in order, once each, with nothing before the
    first; at least one finding; every line of FINDINGS well formed; something under LOCATIONS; an
    IMPRESSION that ends with a period. So a report that was cut off anywhere is unparseable.

    Accepted: blank lines and blanks around lines, any line ending, any letter case in names and
    locations (returned in lower case), repeated findings (returned once), and one leading
    `<unused94>...<unused95>` thinking trace of MedGemma 1.5, which is dropped. Other text before the
    report makes it unparseable. Names are not checked against a vocabulary.
    """
    stripped = (line.strip() for line in _THINKING.sub("", text).splitlines())
    lines = [line for line in stripped if line]
    if tuple(line for line in lines if line in HEADERS) != HEADERS or lines[0] != HEADERS[0]:
        return None
    first, second = lines.index(HEADERS[1]), lines.index(HEADERS[2])
    findings = [finding for line in lines[1:first] if (finding := _parse_finding(line))]
    well_formed = 0 < len(findings) == first - 1
    located, concluded = second > first + 1, lines[-1].endswith(".")
    return Report(_once(findings)) if well_formed and located and concluded else None


def name_spans(text: str) -> dict[str, tuple[int, int]]:
    """Where `parse_report` finds each name: the first and the end of its characters, in the first line that has it.

    For text that is no report, the lines of its FINDINGS as far as there are any.
    """
    thinking = _THINKING.match(text)
    found: dict[str, tuple[int, int]] = {}
    place, inside = (thinking.end() if thinking else 0), False
    for line in text[place:].splitlines(keepends=True):
        stripped = line.strip()
        if stripped in HEADERS:
            inside = stripped == HEADERS[0]
        elif inside and (match := _FINDING_LINE.fullmatch(stripped)) and match["name"].strip():
            name = match["name"].strip()
            start = place + line.index(stripped) + match.start("name") + match["name"].index(name)
            found.setdefault(name.lower(), (start, start + len(name)))
        place += len(line)
    return found


def _once(items: Iterable[_Item]) -> tuple[_Item, ...]:
    return tuple(dict.fromkeys(items))


def _finding_line(finding: Finding) -> str:
    places = f" ({', '.join(finding.locations)})" if finding.locations else ""
    return f"- {finding.name}{places}"


def _impression(report: Report) -> str:
    if report.names == {NORMAL}:
        return NORMAL_IMPRESSION
    names = ", ".join(_once(finding.name for finding in report.findings))
    return f"{names[0].upper()}{names[1:]}."


def _parse_finding(line: str) -> Finding | None:
    match = _FINDING_LINE.fullmatch(line.lower())
    if match is None or not match["name"].strip():
        return None
    if match["locations"] is None:
        return Finding(match["name"])
    locations = tuple(place.strip() for place in match["locations"].split(","))
    return Finding(match["name"], locations) if all(locations) else None


def _check(report: Report) -> None:
    if not report.findings:
        raise ReportError("A report needs at least one finding ('normal' for a healthy chest).")
    for finding in report.findings:
        if finding.name in STATUSES:
            raise ReportError(f"'{finding.name}' is a status, not a finding: it has no report.")
        _check_text(finding.name, "label", forbidden="()")
        for place in finding.locations:
            _check_text(place, f"location of '{finding.name}'", forbidden="(),")
            if place == NO_LOCATION:
                raise ReportError(f"'{finding.name}' has the location '{NO_LOCATION}': leave it out instead.")
    if NORMAL in report.names and report.findings != (Finding(NORMAL),):
        others = ", ".join(sorted(report.names - {NORMAL})) or ", ".join(report.locations)
        raise ReportError(f"'{NORMAL}' contradicts what stands beside it: {others}.")


def _check_text(text: str, role: str, forbidden: str) -> None:
    """Refuse text that the format would not carry back unchanged."""
    if not text or text != text.strip() or text.splitlines() != [text]:
        raise ReportError(f"{role} {text!r}: must be one line of text without blanks around it.")
    if text != text.lower() or any(character in text for character in forbidden):
        raise ReportError(f"{role} {text!r}: must be lower case and free of {' '.join(forbidden)}")
