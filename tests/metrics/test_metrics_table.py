from __future__ import annotations

import io

from rich.console import Console

from tests.metrics.report_cases import pair, structured
from xrayexp.checks import Check
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import score
from xrayexp.metrics.structured.matches import Matches
from xrayexp.metrics.table import NEVER_TRUE_SHOWN, render
from xrayexp.tracking.summary import FINDINGS_SHOWN

SCREEN = 50  # lines of a terminal


def printed(scores: Scores, width: int = 100, findings: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(scores, findings))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def structured_metrics(reports: list[ScoredReport], bootstrap: int = 100) -> Scores:
    return score(reports, structured(), bootstrap=bootstrap)


def scored(*pairs: tuple[str, str]) -> list[ScoredReport]:
    """Names separated by blanks; a patient each."""
    return [
        pair(truth.replace(" ", ","), predicted.replace(" ", ","), str(i)) for i, (truth, predicted) in enumerate(pairs)
    ]


def test_every_value_is_on_its_line_at_110_columns() -> None:
    pairs = [("normal", "normal")] * 40 + [("nodule mass", "nodule")] * 20 + [("mass", "normal nodule")] * 10
    scores = structured_metrics(scored(*pairs))
    lines = printed(scores, width=110).splitlines()
    assert all(len(line) <= 110 for line in lines)
    assert not any("…" in line for line in lines)
    for name, definition in scores.definitions.items():
        title = definition.row or definition.title
        [line] = [line for line in lines if line.startswith(f"{title}  ")]
        value = scores.estimates[name].value
        assert (f"{value:.3f}" if value == value else " - ") in line
        if not definition.row or definition.column == "F1":
            assert definition.caution in line or scores.estimates[name].reason in line


def test_the_summary_is_one_screen_however_many_findings_there_are() -> None:
    many = [f"finding{i}" for i in range(150)]
    scores = structured_metrics(scored(*((name, f"{name} ghost{name}") for name in many)))
    text = printed(scores, 110, findings=FINDINGS_SHOWN)
    assert len(text.splitlines()) <= SCREEN
    assert "140 rarer findings" in text
    assert "150 names, never true" in text


def test_what_is_left_out_is_said_with_what_helps() -> None:
    class Weightless(Matches):
        name = "weightless"

        def unavailable(self) -> Check:
            return Check("weights", "missing", "[red] is not there", "xrayexp data fetch-metrics")

    text = printed(score(scored(("a", "a")), [Weightless()]))
    assert "weightless is left out: weights: [red] is not there; xrayexp data fetch-metrics" in text


def test_soft_match_carries_its_warning_and_findings_fall_by_support() -> None:
    text = printed(structured_metrics(scored(("a b", "a b"), ("a", "a"), ("b a", "c"))))
    assert "RECALL ONLY: naming everything scores 1" in text
    rows = text[text.index("Per finding") :].splitlines()[2:]
    assert [row.split()[0] for row in rows] == ["a", "b", "c"]


def test_what_does_not_exist_is_a_dash_with_its_reason() -> None:
    text = printed(structured_metrics(scored(("a", "a"))))
    [line] = [line for line in text.splitlines() if line.startswith("finding + location ")]
    assert line.split()[3:7] == ["-", "-", "-", "-"]
    assert "no location is true or named" in line
    assert "nan" not in text


def test_babble_is_cut_short_and_never_taken_for_markup() -> None:
    babble = " ".join(f"[red]{index}[/wrong]" for index in range(500))
    text = printed(structured_metrics(scored(("a", babble)), bootstrap=0))
    assert "[red]0[/wrong]" in text
    assert f"{500 - NEVER_TRUE_SHOWN} more names, never true" in text
    assert text.count("[red]") == NEVER_TRUE_SHOWN


def test_a_narrow_terminal_wraps_and_keeps_the_numbers() -> None:
    text = printed(structured_metrics(scored(("a", "a"), ("b", "a"))), width=70)
    assert "0.500" in text
    assert all(len(line) <= 70 for line in text.splitlines())
