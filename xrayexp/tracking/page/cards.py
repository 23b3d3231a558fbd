"""Reports beside their image, finding by finding: what is right, in the wrong place, missed, invented."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from xrayexp.metrics.marks import Mark, Marked, marked
from xrayexp.metrics.samples import ScoredReport
from xrayexp.tracking.page.picture import Picture, figure

SIGNS = {Mark.RIGHT: "\u2713", Mark.MISPLACED: "\u2194", Mark.MISSED: "\u2212", Mark.INVENTED: "+"}
LEGEND = "".join(
    f'<span class="{kind}">{SIGNS[mark]} {words}</span>'
    for mark, kind, words in (
        (Mark.RIGHT, "right", "right"),
        (Mark.MISPLACED, "misplaced", "right finding, wrong place"),
        (Mark.MISSED, "missed", "missed"),
        (Mark.INVENTED, "invented", "invented"),
    )
)
LEGEND = f'<p class="legend">{LEGEND}</p>'

STYLE = """
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; }
.right { color: var(--green); } .missed { color: var(--amber); } .invented { color: var(--red); }
.misplaced { color: var(--blue); }
article { display: grid; grid-template-columns: 170px repeat(auto-fit, minmax(200px, 1fr)); gap: 8px 22px; }
article { border-top: 1px solid var(--line); padding: 16px 0; }
article[hidden] { display: none; }
article:first-child { border-top: 0; padding-top: 4px; }
article figure { margin: 0; font-size: 12px; color: var(--quiet); overflow-wrap: anywhere; }
article img, .absent { width: 100%; max-width: 240px; border-radius: 6px; background: #101418; display: block; }
.absent { color: #aab4be; padding: 22px 12px; font-size: 12.5px; }
article h4 { font-size: 13px; margin: 0 0 4px; color: var(--quiet); font-weight: 600; }
article ul { list-style: none; margin: 0; padding: 0; font-size: 14px; overflow-wrap: anywhere; }
article li { padding-left: 20px; text-indent: -20px; margin-bottom: 2px; }
article p { font-size: 13px; }
article li small { color: var(--quiet); }
article li b { display: inline-block; width: 20px; text-indent: 0; }
article li.invented span, article li.missed span { text-decoration: underline dotted; text-underline-offset: 3px; }
pre { font: 12.5px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0 0; }
article details { font-size: 12.5px; color: var(--quiet); margin-top: 6px; }
@media (max-width: 640px) { article { grid-template-columns: 1fr; } }
"""


def card(picture: Picture, said: Sequence[tuple[str, ScoredReport]], note: str = "") -> str:
    """One image: what is true, and what was said of it.

    Args:
        picture: the image.
        said: by heading, as HTML, each report of the same image; at least one.
        note: a line below the truth, as plain text.
    """
    first = said[0][1]
    below = f'<p class="quiet">{escape(note)}</p>' if note else ""
    truth = "".join(f"<li>{escape(f.name)}{_places(f.locations)}</li>" for f in first.truth.findings)
    columns = "".join(f"<div><h4>{heading}</h4>{_said(report)}</div>" for heading, report in said)
    return (
        f"<article>{figure(picture, first.image_id)}<div><h4>truth</h4><ul>{truth}</ul>{below}</div>{columns}</article>"
    )


def _said(report: ScoredReport) -> str:
    unread = '<p class="invented">+ cannot be read as a report</p>' if report.predicted is None else ""
    lines = "".join(map(_line, marked(report)))
    text = report.predicted_text
    written = f"<details><summary>as written</summary><pre>{escape(text)}</pre></details>" if text else ""
    return f"{unread}<ul>{lines}</ul>{written}"


def _line(one: Marked) -> str:
    kind = "misplaced" if one.mark is Mark.MISPLACED else one.mark.value
    where = {
        Mark.RIGHT: _places(one.named),
        Mark.MISPLACED: _places(one.named or ("no place",)) + f" <small>instead of {_listed(one.true)}</small>",
        Mark.MISSED: f" <small>missed</small>{_places(one.true)}",
        Mark.INVENTED: f" <small>invented</small>{_places(one.named)}",
    }[one.mark]
    return f'<li class="{kind}"><b>{SIGNS[one.mark]}</b><span>{escape(one.name)}</span>{where}</li>'


def _places(locations: Sequence[str]) -> str:
    return f" <small>({_listed(locations)})</small>" if locations else ""


def _listed(locations: Sequence[str]) -> str:
    return escape(", ".join(locations)) or "no place"
