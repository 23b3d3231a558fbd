"""What sets the runs apart."""

from __future__ import annotations

from xrayexp.tracking.page.inline import sign
from xrayexp.tracking.page.tables import Cell, Head, grid
from xrayexp.tracking.page.view import View
from xrayexp.webpage import Raw, section


def section_of(view: View) -> str:
    """The values of the configs that differ."""
    if not any(view.choices.values()):
        return section("Choices that differ", "<p>None that is recorded: the runs have the same settings.</p>")
    heads = [Head("setting", "text"), *(Head(Raw(sign(run.name, i))) for i, run in enumerate(view.runs))]
    rows = [
        [Cell(key, key, "name"), *(Cell(values.get(run.name, "-"), kind="long") for run in view.runs)]
        for key, values in view.choices.items()
    ]
    return section("Choices that differ", grid("choices", heads, rows))
