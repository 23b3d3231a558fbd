"""Tables that can be sorted by a click on a head and narrowed by words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from xrayexp.webpage import Raw, shown

FILTERED_FROM = 12  # rows; fewer are seen at once

STYLE = """
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; text-align: inherit; }
th button { cursor: pointer; }
th button::after { content: "\\2195"; opacity: .35; margin-left: 4px; }
th[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
:is(th button, summary, input):focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
input.filter { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--line); }
input.filter { border-radius: 6px; padding: 4px 10px; margin: 0 0 8px; width: 100%; max-width: 260px; }
td small { display: block; color: var(--quiet); font-size: 12.5px; }
td.name, th:first-child { position: sticky; left: 0; background: var(--card); }
td.name { min-width: 200px; max-width: 340px; overflow-wrap: break-word; }
td.said { white-space: nowrap; }
@media (max-width: 640px) { td.name { min-width: 112px; max-width: 130px; } }
"""

SCRIPT = """
for (const head of document.querySelectorAll("th[data-sort]")) {
  head.firstElementChild.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0], column = head.cellIndex;
    const first = head.dataset.sort === "number" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const key = row => row.cells[column].dataset.v ?? "";
    const compare = head.dataset.sort === "number" ? (a, b) => a - b : (a, b) => a.localeCompare(b);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => {
      const left = key(a), right = key(b);
      if (left === "" || right === "") return (left === "") - (right === "");
      return sign * compare(left, right);
    });
    body.append(...rows);
  });
}
for (const box of document.querySelectorAll("input.filter")) {
  box.hidden = false;
  const shown = document.getElementById(box.dataset.of);
  const kinds = [...document.querySelectorAll(`input.kind[data-of="${box.dataset.of}"]`)];
  const narrow = () => {
    const words = box.value.toLowerCase().split(" ");
    const without = kinds.filter(one => !one.checked).map(one => one.value);
    for (const one of (shown.tBodies ? shown.tBodies[0] : shown).children) {
      const text = one.textContent.toLowerCase();
      one.hidden = without.includes(one.dataset.kind) || !words.every(word => text.includes(word));
    }
    shown.dispatchEvent(new Event("narrowed"));
  };
  for (const one of [box, ...kinds]) one.addEventListener("input", narrow);
}
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown; escaped, unless it is `Raw`.
        value: what rows are sorted by: a number or a word; None and NaN stand last.
        kind: class of the cell.
    """

    text: str
    value: float | str | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """One head.

    Attributes:
        text: what is shown.
        sort: "number", "text", or empty where rows cannot be sorted by the column.
        about: said when the mouse rests on it.
    """

    text: str
    sort: str = ""
    about: str = ""


def number(value: float, form: str = ".3f") -> Cell:
    """A number, or a dash for what does not exist."""
    return Cell("-" if math.isnan(value) else format(value, form), value, "n")


def grid(
    name: str,
    heads: Sequence[Head],
    rows: Sequence[Sequence[Cell]],
    attributes: Sequence[Mapping[str, str]] = (),
) -> str:
    """A table.

    Args:
        name: unique in the page.
        heads: of the columns.
        rows: in the order in which they stand at first.
        attributes: of each row, for scripts; with them the box that narrows the table is left to the caller.
    """
    titles = "".join(_head(head) for head in heads)
    given = attributes or [{}] * len(rows)
    lines = "".join(
        f"<tr{_attributes(some)}>{''.join(map(_cell, row))}</tr>" for row, some in zip(rows, given, strict=True)
    )
    narrowed = filter_box(name, "filter rows") if len(rows) >= FILTERED_FROM and not attributes else ""
    return (
        f'{narrowed}<div class="scroll"><table id="{escape(name)}"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def filter_box(name: str, words: str) -> str:
    """A box that hides the children of the table or element of this name that lack a typed word; needs scripts."""
    return (
        f'<input class="filter" type="search" hidden data-of="{escape(name)}" placeholder="{escape(words)}" '
        f'aria-label="{escape(words)}">'
    )


def _head(head: Head) -> str:
    numeric = " class=n" if head.sort == "number" else ""
    about = f' title="{escape(head.about)}"' if head.about else ""
    if not head.sort:
        return f"<th{about}>{shown(head.text)}</th>"
    button = f'<button type="button">{shown(head.text)}</button>'
    return f'<th{numeric}{about} scope="col" data-sort="{head.sort}">{button}</th>'


def _attributes(given: Mapping[str, str]) -> str:
    return "".join(f' {key}="{escape(value)}"' for key, value in given.items())


def _cell(cell: Cell) -> str:
    kind = f' class="{cell.kind}"' if cell.kind else ""
    missing = cell.value is None or (isinstance(cell.value, float) and math.isnan(cell.value))
    value = "" if missing else f' data-v="{escape(str(cell.value))}"'
    return f"<td{kind}{value}>{shown(cell.text)}</td>"


def two_lines(text: str, below: str) -> Raw:
    """Text over smaller text."""
    return Raw(f"{escape(text)}<small>{escape(below)}</small>" if below else escape(text))
