from __future__ import annotations

import io

from rich.console import Console

from xrayexp.data.report import Finding, Report
from xrayexp.metrics.definitions import HEADLINE
from xrayexp.metrics.structured import ScoredReport, StructuredMetrics, structured_metrics
from xrayexp.metrics.table import NEVER_TRUE_SHOWN, render


def printed(metrics: StructuredMetrics, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(metrics))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def scored(*pairs: tuple[str, str]) -> list[ScoredReport]:
    """Names separated by blanks; a patient each."""
    return [
        ScoredReport(str(index), str(index), *(Report(tuple(map(Finding, side.split()))) for side in pair))
        for index, pair in enumerate(pairs)
    ]


def test_every_metric_has_one_line_at_100_columns() -> None:
    pairs = [("normal", "normal")] * 40 + [("nodule mass", "nodule")] * 20 + [("mass", "normal nodule")] * 10
    lines = printed(structured_metrics(scored(*pairs))).splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert not any("…" in line for line in lines)
    for metric in HEADLINE:
        [line] = [line for line in lines if line.startswith(f"{metric.title}  ")]
        assert metric.caution in line or "location" in line


def test_soft_match_carries_its_warning_and_findings_fall_by_support() -> None:
    text = printed(structured_metrics(scored(("a b", "a b"), ("a", "a"), ("b a", "c"))))
    assert "RECALL ONLY: naming everything scores 1" in text
    rows = text[text.index("Per finding") :].splitlines()[2:]
    assert [row.split()[0] for row in rows] == ["a", "b", "c"]


def test_what_does_not_exist_is_a_dash_with_its_reason() -> None:
    text = printed(structured_metrics(scored(("a", "a"))))
    [line] = [line for line in text.splitlines() if line.startswith("finding + location recall")]
    assert line.split()[4:6] == ["-", "-"]
    assert "no true finding has a location" in line
    assert "nan" not in text


def test_babble_is_cut_short_and_never_taken_for_markup() -> None:
    babble = " ".join(f"[red]{index}[/wrong]" for index in range(500))
    text = printed(structured_metrics(scored(("a", babble)), bootstrap=0))
    assert "[red]0[/wrong]" in text
    assert f"{500 - NEVER_TRUE_SHOWN} more names, never true" in text
    assert text.count("[red]") == NEVER_TRUE_SHOWN


def test_a_narrow_terminal_wraps_and_keeps_the_numbers() -> None:
    text = printed(structured_metrics(scored(("a", "a"), ("b", "a"))), width=60)
    assert "0.500" in text
    assert all(len(line) <= 60 for line in text.splitlines())
