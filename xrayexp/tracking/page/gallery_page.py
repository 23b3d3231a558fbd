"""The error gallery: the reports of a run, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from xrayexp import __version__
from xrayexp.metrics.samples import ScoredReport
from xrayexp.replacing import replaced
from xrayexp.tracking.page import cards, inline, tables
from xrayexp.tracking.page.picture import Picture
from xrayexp.webpage import document

FOOTER = (
    f"xrayexp {__version__}, xrayexp gallery. This page shows images and reports of the data set: it falls under the "
    "data set's licence."
)
SCORE = (
    "Sorted by how wrong the report is: the weights of what it misses and invents, and half of that of what it puts in "
    "the wrong place. An urgent finding weighs most, an incidental one least; 'normal' beside another mistake weighs "
    "nothing, and a report that cannot be read misses everything."
)


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the gallery shows.

    Attributes:
        name: of the run.
        split: what it was evaluated on.
        worst: the reports with how wrong they are, the worst first.
        images: that were evaluated.
        wrong: of these, how many are wrong at all.
        pictures: by image.
    """

    name: str
    split: str
    worst: Sequence[tuple[ScoredReport, float]]
    images: int
    wrong: int
    pictures: Mapping[str, Picture]


def gallery_page(gallery: Gallery) -> str:
    """The page as text."""
    counts = (
        f"{gallery.wrong:,} of {gallery.images:,} images of the {gallery.split} split are wrong in something; the "
        f"worst {len(gallery.worst):,} are shown."
    )
    shown = "".join(
        cards.card(gallery.pictures[report.image_id], [("model", report)], f"wrong by {wrong:g}")
        for report, wrong in gallery.worst
    )
    body = (
        f'<section><p>{escape(counts)}</p><p class="quiet">{escape(SCORE)}</p>{cards.LEGEND}'
        f'{tables.filter_box("reports", "filter by finding or image")}<div id="reports">{shown}</div></section>'
    )
    style = inline.STYLE + tables.STYLE + cards.STYLE
    return document(f"Errors of {gallery.name}", body, FOOTER, style, tables.SCRIPT)


def write_gallery_page(gallery: Gallery, path: Path) -> None:
    """Writes the page; an earlier one is replaced as a whole.

    Raises:
        OSError: it cannot be written.
    """
    with replaced(path) as temporary:
        temporary.write_text(gallery_page(gallery), encoding="utf-8")
