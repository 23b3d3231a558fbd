"""The HTML page of an audit: one file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from xrayexp import __version__
from xrayexp.data.audit import figures
from xrayexp.data.audit.audit import Audit
from xrayexp.data.audit.faults import CONST, DUPLICATE, KINDS, MISSING, SUSPECT, UNREADABLE, ImageFindings
from xrayexp.data.audit.labels import LabelStatistics
from xrayexp.data.images import read_image
from xrayexp.errors import DataError
from xrayexp.replacing import replaced
from xrayexp.webpage import Raw, data_uri, document, section, table

MOST_ROWS = 200  # of a kind of problem that the page lists; problems.csv has all
MOST_THUMBNAILS = 36
THUMBNAIL = 180  # pixels

STYLE = """
.suspects { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 16px; }
.suspects figure { margin: 0; font-size: 12.5px; overflow-wrap: anywhere; }
.suspects img { width: 100%; height: 180px; object-fit: contain; background: #101418; border-radius: 6px; }
"""
FOOTER = (
    f"xrayexp {__version__}, xrayexp data check. This page names images of the data set and may show some: it falls "
    "under the data set's licence."
)


def write_page(audit: Audit, path: Path) -> None:
    """Writes the page.

    Args:
        audit: what to show.
        path: of the file; replaced as a whole.

    Raises:
        OSError: it cannot be written.
    """
    with replaced(path) as temporary:
        temporary.write_text(page(audit), encoding="utf-8")


def page(audit: Audit) -> str:
    """The page as text."""
    parts = [_verdict(audit), _numbers(audit)]
    if audit.funnel:
        parts.append(section("Rows that are left", _funnel(audit.funnel)))
    if audit.splits:
        parts.append(section("Splits", _splits(audit)))
    if audit.labels is not None:
        parts += _labels(audit.labels)
    if audit.images is not None:
        parts += _images(audit.images)
    title = f"Data check: {audit.name if audit.labels is not None else 'images without labels'}"
    return document(title, "".join(parts), FOOTER, STYLE)


def _verdict(audit: Audit) -> str:
    words = "Training can begin." if audit.fine else "Training would stop before it begins."
    text = "".join(f"<p>{escape(line)}</p>" for line in audit.obstacles())
    notes = "".join(f'<p class="quiet">{escape(note)}</p>' for note in audit.notes)
    return f'<section class="verdict{"" if audit.fine else " bad"}"><strong>{words}</strong>{text}{notes}</section>'


def _numbers(audit: Audit) -> str:
    shown: list[tuple[int, str]] = []
    if audit.labels is not None:
        shown += [(audit.labels.images, "usable images"), (audit.labels.patients, "patients")]
        shown += [(len(audit.labels.findings), "different findings")]
    if audit.images is not None:
        shown += [(audit.images.count(kind), f"{kind}") for kind in (MISSING, UNREADABLE, CONST, SUSPECT, DUPLICATE)]
    boxes = "".join(f"<div><b>{number:,}</b><span>{escape(words)}</span></div>" for number, words in shown)
    return f'<div class="numbers">{boxes}</div>'


def _funnel(funnel: Sequence[tuple[str, int]]) -> str:
    rows, before = [], funnel[0][1]
    for step, left in funnel:
        bar = f'<div class="bar" style="width:{100 * left / max(funnel[0][1], 1):.2f}%"></div>'
        rows.append((step, f"{left:,}", f"-{before - left:,}" if before > left else "", Raw(bar)))
        before = left
    return table(("step", "#rows left", "#left out", ""), rows, widths=("40%", "12%", "12%", "36%"))


def _splits(audit: Audit) -> str:
    images = audit.images
    heads = ("split", "#images", *(f"#{kind}" for kind in KINDS if images is not None))
    rows = [
        (name, f"{size:,}", *(f"{images.count(kind, name):,}" for kind in KINDS if images is not None))
        for name, size in audit.splits.items()
    ]
    return table(heads, rows)


def _labels(labels: LabelStatistics) -> list[str]:
    findings = figures.finding_frequencies(labels.findings)
    more = len(labels.findings) - figures.MOST_FINDINGS
    rest = f'<p class="quiet">and {more} rarer ones</p>' if more > 0 else ""
    everything = table(("finding", "#images"), [(str(n), f"{c:,}") for n, c in labels.findings.items()])
    columns = [("Projections", labels.projections), ("Who labelled them", labels.methods)]
    small = "".join(f"<h3>{title}</h3>{figures.groups(counts, title)}" for title, counts in columns if len(counts))
    per_image = f"<h3>Findings per image</h3>{figures.findings_per_image(labels.per_image)}"
    shown = [
        section("Findings", f"{findings}{rest}<details><summary>all of them</summary>{everything}</details>"),
        section("Images", f'<div class="columns"><div>{per_image}</div><div>{small}</div></div>'),
    ]
    if len(labels.together) > 1:
        words = (
            '<p class="quiet">Of the images with the finding on the left, the share that also have the one below.</p>'
        )
        shown.append(section("Findings that come together", words + figures.co_occurrence(labels.together)))
    return shown


def _images(images: ImageFindings) -> list[str]:
    shown = []
    if (images.records["reason"] == "").any():
        shown.append(section("Sizes, grey values, likeness", figures.image_values(images.records)))
    thumbnails = _thumbnails(images)
    if thumbnails:
        words = (
            '<p class="quiet">Flagged by simple statistics: each deserves a look, and some will be fine. '
            "Constant images are left out of training, suspects only with data.source.suspects=drop.</p>"
        )
        shown.append(section("Suspect images", f'{words}<div class="suspects">{"".join(thumbnails)}</div>'))
    tables = [_problems(images, kind) for kind in KINDS if images.count(kind)]
    shown.append(section("Problems", "".join(tables) or "<p>None.</p>"))
    return shown


def _problems(images: ImageFindings, kind: str) -> str:
    found = images.problems[images.problems["kind"] == kind]
    rows = found.head(MOST_ROWS)[["image_id", "split", "reason"]].itertuples(index=False, name=None)
    more = f'<p class="quiet">and {len(found) - MOST_ROWS:,} more in problems.csv</p>' if len(found) > MOST_ROWS else ""
    title = f"{len(found):,} {kind}: {KINDS[kind]}"
    listed = table(("image", "split", "reason"), rows, widths=("34%", "11%", "55%"))
    return f"<details{' open' if len(found) <= 12 else ''}><summary>{escape(title)}</summary>{listed}{more}</details>"


def _thumbnails(images: ImageFindings) -> list[str]:
    """The first flagged images, as training would see them."""
    flagged = images.problems[images.problems["kind"].isin([CONST, SUSPECT])].head(MOST_THUMBNAILS)
    shown = []
    for row in flagged.itertuples():
        try:
            image = read_image(images.images.root / str(row.file), images.images.max_megapixels)
        except DataError:
            continue  # gone since; the table below names it
        caption = f"<b>{escape(str(row.image_id))}</b><br>{escape(str(row.reason))}"
        shown.append(
            f'<figure><img alt="" src="{data_uri(image, THUMBNAIL)}"><figcaption>{caption}</figcaption></figure>'
        )
    return shown
