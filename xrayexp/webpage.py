"""One HTML file that opens without a network: its frame, tables, images; light and dark, wide and narrow."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

THUMBNAIL_BYTES = 20_000

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f8f9; --card: #fff; --ink: #1f2933; --quiet: #5b6875; --line: #e1e6ea; --faint: #edf0f2;
  --blue: #3b7dad; --grey: #8a949e; --red: #b5483a; --green: #2f7d50; --amber: #93600a; --bar: #d6e4ee;
  --axis: #c3cad1; --label: #3c4650;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12171c; --card: #1a2128; --ink: #e3e9ee; --quiet: #9fabb6; --line: #2c353e; --faint: #242c34;
    --blue: #6cb0e0; --grey: #87929d; --red: #ee8576; --green: #66c48d; --amber: #dfae59; --bar: #29465c;
    --axis: #46515c; --label: #b9c4ce;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 12px; }
h3 { font-size: 14px; margin: 18px 0 6px; color: var(--quiet); font-weight: 600; }
p { margin: 6px 0; }
.quiet { color: var(--quiet); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section { padding: 20px 22px; margin-top: 18px; }
.verdict { border-left: 6px solid var(--green); }
.verdict.bad { border-left-color: var(--red); }
.verdict.warned { border-left-color: var(--amber); }
.verdict strong { font-size: 17px; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(116px, 1fr)); gap: 12px; margin-top: 18px; }
.numbers div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.numbers b { display: block; font-size: 23px; font-weight: 600; font-variant-numeric: tabular-nums; }
.numbers span { color: var(--quiet); font-size: 13px; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 8px 28px; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--faint); vertical-align: top; }
th { color: var(--quiet); font-weight: 600; font-size: 13px; vertical-align: bottom; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.long { overflow-wrap: anywhere; }
.bar { background: var(--bar); height: 9px; border-radius: 3px; min-width: 1px; margin-top: 7px; }
svg { max-width: 100%; height: auto; }
svg text { fill: var(--label); }
details { margin-top: 8px; }
summary { cursor: pointer; }
footer { color: var(--quiet); font-size: 13px; margin-top: 22px; }
@media (max-width: 640px) { main { padding: 18px 12px 40px; } section { padding: 16px 14px; } }
"""


class Raw(str):
    """HTML of this package's own making: what is not escaped."""


def document(title: str, body: str, footer: str, style: str = "", script: str = "") -> str:
    """The page.

    Args:
        title: plain text; also its heading.
        body: HTML.
        footer: plain text.
        style: CSS beside `STYLE`.
        script: JavaScript, run at the end; nothing a user wrote may stand in it.
    """
    code = f"<script>{script}</script>" if script else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{body}<footer>{escape(footer)}</footer></main>{code}</body></html>\n"
    )


def section(title: str, content: str, name: str = "") -> str:
    """A box with a heading; `name` is what a link can point to."""
    anchor = f' id="{escape(name)}"' if name else ""
    return f"<section{anchor}><h2>{escape(title)}</h2>{content}</section>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[str] = ()) -> str:
    """A table; columns whose title begins with # hold numbers. Everything is escaped but `Raw`."""
    numeric = [head.startswith("#") for head in heads]
    columns = "".join(f'<col style="width:{width}">' for width in widths)
    titles = "".join(
        f"<th{' class=n' if number else ''}>{escape(head.removeprefix('#'))}</th>"
        for head, number in zip(heads, numeric, strict=True)
    )
    lines = []
    for row in rows:
        cells = zip(row, numeric, strict=True)
        text = "".join(f'<td class="{"n" if number else "long"}">{shown(cell)}</td>' for cell, number in cells)
        lines.append(f"<tr>{text}</tr>")
    return (
        f"<table><colgroup>{columns}</colgroup><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def shown(text: object) -> str:
    """Escaped, unless it is `Raw`."""
    return text if isinstance(text, Raw) else escape(str(text))


def data_uri(image: NDArray[np.uint8], side: int) -> str:
    """A JPEG inside the page, of at most `THUMBNAIL_BYTES`.

    Args:
        image: grey values, [height, width].
        side: most pixels of the longer side.
    """
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    while True:
        content = BytesIO()
        picture.save(content, "JPEG", quality=80)
        if content.tell() <= THUMBNAIL_BYTES:
            return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
        picture.thumbnail((max(1, picture.width * 3 // 4), max(1, picture.height * 3 // 4)))
