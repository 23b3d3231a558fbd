"""Runs side by side: identical ones do not differ, swapped ones differ the other way, bad pairs are refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import binomtest

from xrayexp.data.report import Finding, Report
from xrayexp.errors import DataError
from xrayexp.metrics.base import Fixed, Floats, Metric, Sums
from xrayexp.metrics.changes import Turn, changes
from xrayexp.metrics.comparison import MIN_SUPPORT, Comparison, compare_runs
from xrayexp.metrics.marks import Mark, marked, wrongness
from xrayexp.metrics.pairing import pair
from xrayexp.metrics.registry import metrics_of
from xrayexp.metrics.report_set import ReportSet
from xrayexp.metrics.samples import ScoredReport, per_sample
from xrayexp.metrics.scoring import score
from xrayexp.metrics.structured.matches import Matches
from xrayexp.metrics.structured.micro import Micro

NAMES = ("normal", "nodule", "mass", "pneumothorax", "scoliosis")
STRUCTURED = metrics_of("structured")


def report(*names: str) -> Report:
    return Report(tuple(Finding(name, ("left",) if name == "nodule" else ()) for name in names))


def scored(image: int, truth: Report, predicted: Report | None, patient: int | None = None) -> ScoredReport:
    whose = f"p{image if patient is None else patient}"
    return ScoredReport(image_id=f"i{image}", patient_id=whose, truth=truth, predicted=predicted)


def run(error: float, seed: int, images: int = 60, per_patient: int = 1) -> list[ScoredReport]:
    """A run that says something random of a share of the images; the truth is the same for all runs."""
    truths, mistakes = np.random.default_rng(7), np.random.default_rng(seed)
    found = []
    for image in range(images):
        truth = report(*truths.choice(NAMES[1:], size=truths.integers(1, 3), replace=False))
        said: Report | None = truth
        if mistakes.random() < error:
            said = None if mistakes.random() < 0.1 else report(*mistakes.choice(NAMES, size=2, replace=False))
        found.append(scored(image, truth, said, image // per_patient))
    return found


def compared(
    runs: Sequence[list[ScoredReport]], metrics: Sequence[Metric] = STRUCTURED, only: Sequence[str] | None = None
) -> Comparison:
    return compare_runs(pair(dict(zip("abc", runs, strict=False))), metrics, only=only, resamples=200, draws=300)


def test_identical_runs_do_not_differ() -> None:
    found = compared([run(0.5, 0), run(0.5, 0)])
    values = [one for one in found.runs["b"].values.values() if not math.isnan(one.difference)]
    assert len(values) > 30
    assert all((one.difference, one.effect) == (0, 0) for one in values)
    assert {one.p for one in values if not math.isnan(one.p)} == {1.0}
    assert all(one.low == one.high == 0 for one in values if not math.isnan(one.low))
    assert found.runs["b"].exact
    assert not found.runs["b"].changes.changed


def test_swapped_runs_differ_the_other_way() -> None:
    there, back = (compared(runs).runs["b"] for runs in ([run(0.2, 1), run(0.6, 2)], [run(0.6, 2), run(0.2, 1)]))
    for key, one in there.values.items():
        other = back.values[key]
        assert (one.reference, one.p) == pytest.approx((other.other, other.p), nan_ok=True)
        ends = (one.difference, one.low, one.high, one.effect)
        assert ends == pytest.approx((-other.difference, -other.high, -other.low, -other.effect), abs=1e-9, nan_ok=True)
    for one_class, other_class in zip(there.classes["findings"], back.classes["findings"], strict=True):
        assert one_class.f1.difference == pytest.approx(-other_class.f1.difference)
    assert len(there.changes.of(Turn.LOST)) == len(back.changes.of(Turn.GAINED)) > 0


def test_values_are_those_of_an_evaluation_and_a_worse_run_is_found_worse() -> None:
    good, bad = run(0.1, 1), run(0.8, 2)
    found = compared([good, bad])
    alone = score(bad, STRUCTURED, bootstrap=0)
    for key, one in found.runs["b"].values.items():
        assert one.other == pytest.approx(alone.headline(key), nan_ok=True), key
    f1 = found.runs["b"].values["micro_f1"]
    assert f1.high < 0
    assert f1.p < 0.01 < f1.adjusted  # Holm covers some 40 tests, and 300 swaps show no less than 1 in 301
    [only] = compared([good, bad], only=["micro_f1"]).runs["b"].values.values()
    assert only.p == only.adjusted == f1.p


def test_a_comparison_knows_the_bands_of_the_evaluation() -> None:
    """By the shares that metrics.json keeps."""
    shares = {"nodule": 0.5, "mass": 0.005, "scoliosis": 0.0005, "pneumothorax": 0.5}
    good, bad = run(0.1, 1), run(0.8, 2)
    alone = score(bad, STRUCTURED, training_shares=shares, bootstrap=0)
    kept = alone.to_json()["training_shares"]
    found = compare_runs(pair({"a": good, "b": bad}), STRUCTURED, training_shares=kept, resamples=100, draws=100)
    for band in ("head_f1", "middle_f1", "tail_f1"):
        assert found.runs["b"].values[band].other == pytest.approx(alone.headline(band))
    assert not math.isnan(alone.headline("tail_f1"))


def test_exact_match_is_mcnemars_exact_test() -> None:
    """With one image a patient."""
    right, wrong = report("nodule"), report("mass")
    turned = [(right, right)] * 5 + [(right, wrong)] * 2 + [(wrong, right)] * 6 + [(wrong, wrong)] * 4
    runs = [[scored(image, right, said[side]) for image, said in enumerate(turned)] for side in (0, 1)]
    found = compared(runs, [Matches()])
    assert found.runs["b"].exact
    assert found.runs["b"].values["exact_match"].p == pytest.approx(binomtest(6, 8).pvalue)
    turns = found.runs["b"].changes
    assert (turns.both_right, turns.both_wrong) == (5, 4)
    assert (len(turns.of(Turn.GAINED)), len(turns.of(Turn.LOST))) == (6, 2)


def test_patients_are_swapped_and_not_images() -> None:
    """Ten images of one patient are one observation."""
    right, wrong = report("nodule"), report("mass")
    runs = [[scored(image, right, said, image // 10) for image in range(40)] for said in (wrong, right)]
    found = compared(runs, [Matches()]).runs["b"].values["exact_match"]
    assert found.p == pytest.approx(2 / 2**4)


def test_one_patient_has_neither_interval_nor_test() -> None:
    found = (
        compared([run(0.5, 0, per_patient=100), run(0.5, 1, per_patient=100)], [Micro()]).runs["b"].values["micro_f1"]
    )
    assert not math.isnan(found.difference)
    assert math.isnan(found.low)
    assert math.isnan(found.p)


def test_holm_covers_all_runs_and_no_descriptions() -> None:
    found = compared([run(0.2, 1), run(0.5, 2), run(0.5, 3)])
    tested = [one for values in found.runs.values() for one in values.values.values() if not math.isnan(one.p)]
    assert found.tests == len(tested)
    smallest = min(tested, key=lambda one: one.p)
    assert smallest.adjusted == pytest.approx(min(1.0, smallest.p * found.tests))
    assert math.isnan(found.runs["b"].values["mean_findings_named"].p)


def test_rare_findings_are_not_tested() -> None:
    common = [scored(image, report("nodule"), report("nodule")) for image in range(MIN_SUPPORT)]
    rare = [scored(100, report("mass"), report("mass"))]
    other = [replace(one, predicted=report("scoliosis")) for one in (*common, *rare)]
    nodule, mass = compared([[*common, *rare], other]).runs["b"].classes["findings"]
    assert (nodule.name, nodule.support, nodule.reference_named, nodule.other_named) == ("nodule", 10, 10, 0)
    assert nodule.f1.difference == mass.f1.difference == -1
    assert nodule.f1.adjusted == nodule.f1.p < 0.05
    assert math.isnan(mass.f1.p)


class Broken(Metric):
    """Fails, as other people's code does."""

    name: ClassVar[str] = "broken"
    definitions = Micro.definitions

    def measure(self, reports: ReportSet) -> Sums:
        raise RuntimeError("no such file")


class Short(Broken):
    """Forgets a report."""

    name: ClassVar[str] = "short"

    def measure(self, reports: ReportSet) -> Sums:
        return Sums(np.ones((len(reports) - 1, 3)), lambda sums: sums)


class Whole(Metric):
    """A number that is no sum over reports."""

    name: ClassVar[str] = "whole"
    definitions = (replace(Micro.definitions[0], name="whole"),)

    def measure(self, reports: ReportSet) -> Fixed:
        values: Floats = np.array([float(reports.parsed.mean())])
        return Fixed(values, "no interval: no sum")


class Moody(Metric):
    """Fails for the run that names so many findings."""

    name: ClassVar[str] = "moody"
    definitions = (replace(Micro.definitions[0], name="moody"),)

    def __init__(self, total: float) -> None:
        self.total = total

    def measure(self, reports: ReportSet) -> Sums:
        named = np.array([[0.0 if r.predicted is None else len(r.predicted.findings)] for r in reports.reports])

        def formula(sums: Floats) -> Floats:
            if sums.ndim == 1 and sums[0] == self.total:
                raise ZeroDivisionError("by chance")
            return sums

        return Sums(named, formula)


def test_a_value_that_one_run_lacks_is_compared_for_none() -> None:
    runs = [run(0.0, 0), run(0.9, 1), run(0.5, 2)]
    totals = [sum(len(r.predicted.findings) for r in each if r.predicted is not None) for each in runs]
    assert len(set(totals)) == 3
    found = compared(runs, [Moody(totals[2]), Micro()])
    assert [one.metric for one in found.left_out] == ["moody"]
    assert found.definitions.keys() == found.runs["b"].values.keys() == found.runs["c"].values.keys()
    assert "moody" not in found.definitions


def test_a_metric_that_fails_takes_nothing_with_it_and_one_without_sums_has_no_test() -> None:
    runs = [run(0.0, 0), run(0.9, 1)]
    found = compared(runs, [Broken(), Short(), Whole(), Micro()])
    assert [one.metric for one in found.left_out] == ["broken", "short"]
    assert "no such file" in found.left_out[0].reason
    whole = found.runs["b"].values["whole"]
    share = float(np.mean([one.predicted is not None for one in runs[1]]))
    assert whole.reference == 1.0
    assert whole.other == pytest.approx(share)
    assert math.isnan(whole.p)
    assert found.runs["b"].values["micro_f1"].difference < 0


def test_only_what_is_asked_for_is_measured() -> None:
    found = compared([run(0.1, 0), run(0.1, 1)], [Broken(), Matches(), Micro()], only=["exact_match"])
    assert list(found.definitions) == ["exact_match"]
    assert [one.metric for one in found.left_out] == []


def test_shared_images_alone_are_compared() -> None:
    a, b = run(0.2, 0), run(0.2, 1)
    paired = pair({"a": a[:50], "b": list(reversed(b[10:]))})
    assert paired.images == 40
    assert paired.dropped == {"a": 10, "b": 10}
    assert [one.image_id for one in paired.reports["a"]] == [one.image_id for one in paired.reports["b"]]


@pytest.mark.parametrize(
    "other, words",
    [
        ([scored(1, report("mass"), None)], "different labels"),
        ([scored(1, report("nodule"), None, patient=9)], "different labels or patients"),
        ([scored(2, report("nodule"), None)], "no image was scored in all"),
        ([scored(1, report("nodule"), None)] * 2, "i1 is scored twice"),
    ],
)
def test_what_cannot_be_paired_is_refused(other: list[ScoredReport], words: str) -> None:
    with pytest.raises(DataError, match=words):
        pair({"a": [scored(1, report("nodule"), None)], "b": other})


def test_changes_go_by_exact_match_and_then_by_f1() -> None:
    truth = report("nodule", "mass")
    said = {
        "gained": (report("nodule"), truth),
        "closer": (report("normal"), report("nodule")),
        "further": (report("nodule"), None),
        "same": (report("nodule"), report("mass")),
    }
    runs = [[scored(i, truth, pair_[side]) for i, pair_ in enumerate(said.values())] for side in (0, 1)]
    found = changes(*runs)
    turns = {change.other.image_id: change.turn for change in found.changed}
    assert turns == {"i0": Turn.GAINED, "i1": Turn.BETTER, "i2": Turn.WORSE}
    assert [abs(change.gain) for change in found.changed] == sorted((abs(c.gain) for c in found.changed), reverse=True)


def test_marks_and_how_wrong() -> None:
    truth = Report((Finding("nodule", ("left",)), Finding("mass"), Finding("nodule", ("right",)), Finding("scoliosis")))
    said = Report((Finding("nodule", ("left",)), Finding("mass"), Finding("normal")))
    found = {one.name: one for one in marked(scored(0, truth, said))}
    assert {name: one.mark for name, one in found.items()} == {
        "nodule": Mark.MISPLACED,
        "mass": Mark.RIGHT,
        "scoliosis": Mark.MISSED,
        "normal": Mark.INVENTED,
    }
    assert (found["nodule"].true, found["nodule"].named) == (("left", "right"), ("left",))
    weights = {"nodule": 4.0, "scoliosis": 1.0, "normal": 8.0, "mass": 2.0}
    assert wrongness(scored(0, truth, said), weights.__getitem__) == 0.5 * 4 + 1
    contradiction = Report((*truth.findings, Finding("normal")))
    assert wrongness(scored(0, truth, contradiction), weights.__getitem__) == 8
    assert wrongness(scored(0, truth, None), weights.__getitem__) == 4 + 2 + 1
    assert wrongness(scored(0, report("normal"), None), weights.__getitem__) == 8
    assert wrongness(scored(0, truth, truth), weights.__getitem__) == 0


@pytest.mark.parametrize("error", [0.0, 0.5, 1.0])
def test_marks_agree_with_the_scores(error: float) -> None:
    for one in run(error, 4):
        right = {found.name for found in marked(one) if found.mark in (Mark.RIGHT, Mark.MISPLACED)}
        recall = per_sample(one)["recall"]
        assert recall == pytest.approx(len(right) / len(one.truth.names))
        assert (wrongness(one, lambda _: 1.0) == 0) == per_sample(one)["exact_match_located"]
