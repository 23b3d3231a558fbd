"""The headline metrics: each one's formula beside what it means and where it misleads.

A metric is added by one entry of HEADLINE (and one section of docs/metrics.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from xrayexp.metrics.counts import Counts, Floats
from xrayexp.metrics.formulas import f1, finding_f1, finding_precision, finding_recall, macro, mean


@dataclass(frozen=True, slots=True)
class Definition:
    """One corpus-level metric.

    Attributes:
        name: its key in metrics.json.
        title: its name in the table.
        formula: Counts with leading axes [...] to the value [...], NaN where undefined.
        averages_over: the unit that counts once.
        definition: one sentence.
        weakness: one sentence: what a good value does not show.
        caution: the weakness in the few words that fit the table.
        undefined: why a value may not exist.
        direction: which values are better; 'neither' for a description.
        range: of its values.
    """

    name: str
    title: str
    formula: Callable[[Counts], Floats]
    averages_over: str
    definition: str
    weakness: str
    caution: str
    undefined: str
    direction: Literal["higher", "lower", "neither"] = "higher"
    range: str = "0 to 1"


_NO_REPORT = "no report was scored"
_NONE_TRUE = "no report has a true finding"

HEADLINE = (
    Definition(
        name="exact_match",
        title="exact match",
        formula=mean("exact_match"),
        averages_over="reports",
        definition="Share of reports whose set of finding names equals the true set.",
        weakness="One slip in a long report costs as much as a wholly wrong one, and a test set full of "
        "normal studies lifts it for a model that always says normal.",
        caution="all or nothing; ignores locations",
        undefined=_NO_REPORT,
    ),
    Definition(
        name="exact_match_located",
        title="exact match, located",
        formula=mean("exact_match_located"),
        averages_over="reports",
        definition="Share of reports in which every finding is named with exactly its true set of locations, "
        "and nothing else is named.",
        weakness="Harsher still than exact match: a missing 'left' fails the report, whatever it would mean "
        "to a reader.",
        caution="all or nothing",
        undefined=_NO_REPORT,
    ),
    Definition(
        name="soft_match",
        title="soft match (recall only)",
        formula=mean("soft_match", over="graded"),
        averages_over="reports with a true finding",
        definition="Share of reports that name at least half of their true findings, as ExplainMyXray defines it.",
        weakness="It is recall only: a report that names every finding there is scores 1, so it says nothing "
        "about false findings and must never be quoted without soft_match_jaccard.",
        caution="RECALL ONLY: naming everything scores 1",
        undefined=_NONE_TRUE,
    ),
    Definition(
        name="soft_match_jaccard",
        title="soft match, Jaccard",
        formula=mean("soft_match_jaccard", over="graded"),
        averages_over="reports with a true finding",
        definition="Share of reports in which true and named findings have in common at least half of all "
        "that is true or named.",
        weakness="The threshold hides how wrong a report is: of two true findings, one missed passes; of one "
        "true finding, one invented beside it passes as well.",
        caution="punishes false findings too",
        undefined=_NONE_TRUE,
    ),
    Definition(
        name="micro_precision",
        title="micro precision",
        formula=mean("correct", over="named"),
        averages_over="named findings, over all reports",
        definition="Share of all named findings that are true.",
        weakness="Frequent findings decide it, and a model that names only what it is sure of scores high.",
        caution="frequent findings decide",
        undefined="no finding was named",
    ),
    Definition(
        name="micro_recall",
        title="micro recall",
        formula=mean("correct", over="true"),
        averages_over="true findings, over all reports",
        definition="Share of all true findings that are named.",
        weakness="Frequent findings decide it, and naming everything scores 1.",
        caution="naming everything scores 1",
        undefined=_NONE_TRUE,
    ),
    Definition(
        name="micro_f1",
        title="micro F1",
        formula=f1("correct", "true", "named"),
        averages_over="findings, true and named, over all reports",
        definition="Harmonic mean of micro precision and micro recall.",
        weakness="Frequent findings decide it ('normal' above all), so it can be high while every rare "
        "finding is missed.",
        caution="frequent findings decide",
        undefined="no finding is true or named",
    ),
    Definition(
        name="macro_precision",
        title="macro precision",
        formula=macro(finding_precision),
        averages_over="findings with true support",
        definition="Mean, over the findings that are true at least once, of the share of their namings that "
        "are right; a finding that is never named counts as 0.",
        weakness="Names that are never true are left out, so inventing them costs nothing here, and findings "
        "with a handful of cases make it noisy.",
        caution="rare findings weigh as much as common",
        undefined=_NONE_TRUE,
    ),
    Definition(
        name="macro_recall",
        title="macro recall",
        formula=macro(finding_recall),
        averages_over="findings with true support",
        definition="Mean, over the findings that are true at least once, of the share of their cases that are named.",
        weakness="Naming everything scores 1, and findings with a handful of cases make it noisy.",
        caution="naming everything scores 1",
        undefined=_NONE_TRUE,
    ),
    Definition(
        name="macro_f1",
        title="macro F1",
        formula=macro(finding_f1),
        averages_over="findings with true support",
        definition="Mean of the F1 of the findings that are true at least once.",
        weakness="Findings with a handful of cases weigh as much as those with thousands and make it noisy, "
        "and names that are never true are left out, so inventing them costs nothing here.",
        caution="rare findings weigh as much as common",
        undefined=_NONE_TRUE,
    ),
    Definition(
        name="pair_precision",
        title="finding + location precision",
        formula=mean("pairs_correct", over="pairs_named"),
        averages_over="named (finding, location) pairs, over all reports",
        definition="Share of all named (finding, location) pairs that are true.",
        weakness="A finding named without a location has no pair, so leaving out locations costs nothing here.",
        caution="silent on findings without location",
        undefined="no location was named",
    ),
    Definition(
        name="pair_recall",
        title="finding + location recall",
        formula=mean("pairs_correct", over="pairs_true"),
        averages_over="true (finding, location) pairs, over all reports",
        definition="Share of all true (finding, location) pairs that are named.",
        weakness="Naming every location for every finding scores 1.",
        caution="naming everything scores 1",
        undefined="no true finding has a location",
    ),
    Definition(
        name="pair_f1",
        title="finding + location F1",
        formula=f1("pairs_correct", "pairs_true", "pairs_named"),
        averages_over="(finding, location) pairs, true and named, over all reports",
        definition="Harmonic mean of pair precision and pair recall.",
        weakness="Only findings that have a location take part, those with many locations most, and it is "
        "letters that are compared, not places: 'right' is no part of 'right upper lobe'.",
        caution="silent on findings without location",
        undefined="no location is true or named",
    ),
    Definition(
        name="unparseable_rate",
        title="unparseable",
        formula=mean("unparseable"),
        averages_over="reports",
        definition="Share of predictions that are not a report and therefore name nothing.",
        weakness="It judges the form only; and as an unparseable prediction names nothing false, it lowers "
        "recall and leaves precision as it was.",
        caution="the form only",
        undefined=_NO_REPORT,
        direction="lower",
    ),
    Definition(
        name="mean_findings_true",
        title="findings per report, true",
        formula=mean("true"),
        averages_over="reports",
        definition="Mean number of true findings per report, 'normal' included.",
        weakness="It describes the data, not the model.",
        caution="describes the data",
        undefined=_NO_REPORT,
        direction="neither",
        range="0 or more",
    ),
    Definition(
        name="mean_findings_named",
        title="findings per report, named",
        formula=mean("named"),
        averages_over="reports",
        definition="Mean number of named findings per report, 0 for an unparseable one.",
        weakness="It can equal the true number with every finding wrong; far above it, the recall-only "
        "scores are bought by listing.",
        caution="far above the true one: listing",
        undefined=_NO_REPORT,
        direction="neither",
        range="0 or more",
    ),
)
