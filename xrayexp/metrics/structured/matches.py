"""How many reports are right: wholly, nearly (three quarters) or half, with and without false findings."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xrayexp.metrics.base import Definition, Floats, Metric, Sums
from xrayexp.metrics.formulas import ratio
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.samples import SOFT_THRESHOLD, STRICT_THRESHOLD
from xrayexp.metrics.structured.rows import NO_REPORT, NONE_TRUE, NOT_LISTING

_GRADED = "reports with a true finding"


class Matches(Metric):
    """Shares of matching reports. ExplainMyXray's matches are recall only; beside each stands the one that is not."""

    name: ClassVar[str] = "matches"
    definitions = (
        Definition(
            name="exact_match",
            title="exact match",
            averages_over="reports",
            definition="Share of reports whose set of finding names equals the true set.",
            weakness="One slip in a long report costs as much as a wholly wrong one, and a test set full of "
            "normal studies lifts it for a model that always says normal.",
            caution="all or nothing; ignores locations",
            undefined=NO_REPORT,
        ),
        Definition(
            name="exact_match_located",
            title="exact match, located",
            averages_over="reports",
            definition="Share of reports in which every finding is named with exactly its true set of locations, "
            "and nothing else is named.",
            weakness="Harsher still than exact match: a missing 'left' fails the report, whatever it would mean "
            "to a reader.",
            caution="all or nothing",
            undefined=NO_REPORT,
        ),
        Definition(
            name="exact_match_recall",
            title="exact match (recall only)",
            averages_over=_GRADED,
            definition="Share of reports that name every one of their true findings, whatever else they name.",
            weakness="It is recall only: a report that names every finding there is scores 1.",
            caution="RECALL ONLY: naming everything scores 1",
            undefined=NONE_TRUE,
            invariants=NOT_LISTING,
        ),
        Definition(
            name="strict_match",
            title="strict match (recall only)",
            averages_over=_GRADED,
            definition="Share of reports that name at least 75 % of their true findings, as ExplainMyXray defines it.",
            weakness="It is recall only: a report that names every finding there is scores 1, so it must never be "
            "quoted without strict_match_jaccard.",
            caution="RECALL ONLY: naming everything scores 1",
            undefined=NONE_TRUE,
            invariants=NOT_LISTING,
        ),
        Definition(
            name="strict_match_jaccard",
            title="strict match, Jaccard",
            averages_over=_GRADED,
            definition="Share of reports in which true and named findings have in common at least 75 % of all "
            "that is true or named.",
            weakness="Of three findings or fewer none may be missed and none invented: on short reports it is exact "
            "match under another name.",
            caution="exact match on short reports",
            undefined=NONE_TRUE,
        ),
        Definition(
            name="soft_match",
            title="soft match (recall only)",
            averages_over=_GRADED,
            definition="Share of reports that name at least half of their true findings, as ExplainMyXray defines it.",
            weakness="It is recall only: a report that names every finding there is scores 1, so it says nothing "
            "about false findings and must never be quoted without soft_match_jaccard.",
            caution="RECALL ONLY: naming everything scores 1",
            undefined=NONE_TRUE,
            invariants=NOT_LISTING,
        ),
        Definition(
            name="soft_match_jaccard",
            title="soft match, Jaccard",
            averages_over=_GRADED,
            definition="Share of reports in which true and named findings have in common at least half of all "
            "that is true or named.",
            weakness="The threshold hides how wrong a report is: of two true findings, one missed passes; of one "
            "true finding, one invented beside it passes as well.",
            caution="punishes false findings too",
            undefined=NONE_TRUE,
        ),
    )

    def measure(self, reports: ReportSet) -> Sums:
        true, named, correct = reports.names.sizes()
        lines_true, lines_named, lines_correct = reports.lines.sizes()
        graded, union = true > 0, true + named - correct
        exact = reports.parsed & (true == correct) & (named == correct)
        located = reports.parsed & (lines_true == lines_correct) & (lines_named == lines_correct)
        matches = [graded & (correct >= true)]
        for least in (STRICT_THRESHOLD, SOFT_THRESHOLD):
            matches += [graded & (correct >= least * true), graded & (correct >= least * union)]
        columns = [exact, located, *matches, np.ones(len(reports)), graded]
        return Sums(np.stack(columns, axis=1).astype(float), _formula)


def _formula(sums: Floats) -> Floats:
    of_all, of_graded = sums[..., :2], sums[..., 2:-2]
    parts = [ratio(of_all, sums[..., -2, None]), ratio(of_graded, sums[..., -1, None])]
    return np.concatenate(parts, axis=-1)
