"""The HTML page of an audit: one file that opens without a network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path

from xrayexp import __version__
from xrayexp.data.audit import figures
from xrayexp.data.audit.audit import Audit
from xrayexp.data.audit.faults import CONST, DUPLICATE, KINDS, MISSING, SUSPECT, UNREADABLE, ImageFindings
from xrayexp.data.audit.labels import LabelStatistics
from xrayexp.data.images import read_image
from xrayexp.errors import DataError
from xrayexp.replacing import replaced

MOST_ROWS = 200  # of a kind of problem that the page lists; problems.csv has all
MOST_THUMBNAILS = 36
THUMBNAIL = 180  # pixels

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f8f9; color: #1f2933; font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 25px; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 0 0 12px; }
h3 { font-size: 14px; margin: 18px 0 6px; color: #52606d; font-weight: 600; }
p { margin: 6px 0; }
.quiet { color: #616e7c; }
section { background: #fff; border: 1px solid #e4e9ed; border-radius: 10px; padding: 20px 22px; margin-top: 18px; }
.verdict { border-left: 6px solid #3f8f5f; }
.verdict.bad { border-left-color: #b5483a; }
.verdict strong { font-size: 17px; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(116px, 1fr)); gap: 12px; margin-top: 18px; }
.numbers div { background: #fff; border: 1px solid #e4e9ed; border-radius: 10px; padding: 12px 14px; }
.numbers b { display: block; font-size: 23px; font-weight: 600; font-variant-numeric: tabular-nums; }
.numbers span { color: #616e7c; font-size: 13px; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 8px 28px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid #edf0f2; vertical-align: top; }
th { color: #616e7c; font-weight: 600; font-size: 13px; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.long { overflow-wrap: anywhere; }
.bar { background: #d6e4ee; height: 9px; border-radius: 3px; min-width: 1px; margin-top: 7px; }
svg { max-width: 100%; height: auto; }
.suspects { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 16px; }
.suspects figure { margin: 0; font-size: 12.5px; overflow-wrap: anywhere; }
.suspects img { width: 100%; height: 180px; object-fit: contain; background: #101418; border-radius: 6px; }
details { margin-top: 8px; }
summary { cursor: pointer; }
footer { color: #7b8794; font-size: 13px; margin-top: 22px; }
"""


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
        parts.append(_section("Rows that are left", _funnel(audit.funnel)))
    if audit.splits:
        parts.append(_section("Splits", _splits(audit)))
    if audit.labels is not None:
        parts += _labels(audit.labels)
    if audit.images is not None:
        parts += _images(audit.images)
    title = escape(f"Data check: {audit.name if audit.labels is not None else 'images without labels'}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><main>'
        f"<h1>{title}</h1>{''.join(parts)}"
        f"<footer>xrayexp {escape(__version__)}, xrayexp data check. This page names images of the data set and may "
        "show some: it falls under the data set's licence.</footer></main></body></html>\n"
    )


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
        rows.append((step, f"{left:,}", f"-{before - left:,}" if before > left else "", _Raw(bar)))
        before = left
    return _table(("step", "#rows left", "#left out", ""), rows, widths=("40%", "12%", "12%", "36%"))


def _splits(audit: Audit) -> str:
    images = audit.images
    heads = ("split", "#images", *(f"#{kind}" for kind in KINDS if images is not None))
    rows = [
        (name, f"{size:,}", *(f"{images.count(kind, name):,}" for kind in KINDS if images is not None))
        for name, size in audit.splits.items()
    ]
    return _table(heads, rows)


def _labels(labels: LabelStatistics) -> list[str]:
    findings = figures.finding_frequencies(labels.findings)
    more = len(labels.findings) - figures.MOST_FINDINGS
    rest = f'<p class="quiet">and {more} rarer ones</p>' if more > 0 else ""
    everything = _table(("finding", "#images"), [(str(n), f"{c:,}") for n, c in labels.findings.items()])
    columns = [("Projections", labels.projections), ("Who labelled them", labels.methods)]
    small = "".join(f"<h3>{title}</h3>{figures.groups(counts, title)}" for title, counts in columns if len(counts))
    per_image = f"<h3>Findings per image</h3>{figures.findings_per_image(labels.per_image)}"
    shown = [
        _section("Findings", f"{findings}{rest}<details><summary>all of them</summary>{everything}</details>"),
        _section("Images", f'<div class="columns"><div>{per_image}</div><div>{small}</div></div>'),
    ]
    if len(labels.together) > 1:
        words = (
            '<p class="quiet">Of the images with the finding on the left, the share that also have the one below.</p>'
        )
        shown.append(_section("Findings that come together", words + figures.co_occurrence(labels.together)))
    return shown


def _images(images: ImageFindings) -> list[str]:
    shown = []
    if (images.records["reason"] == "").any():
        shown.append(_section("Sizes, grey values, likeness", figures.image_values(images.records)))
    thumbnails = _thumbnails(images)
    if thumbnails:
        words = (
            '<p class="quiet">Flagged by simple statistics: each deserves a look, and some will be fine. '
            "Constant images are left out of training, suspects only with data.source.suspects=drop.</p>"
        )
        shown.append(_section("Suspect images", f'{words}<div class="suspects">{"".join(thumbnails)}</div>'))
    tables = [_problems(images, kind) for kind in KINDS if images.count(kind)]
    shown.append(_section("Problems", "".join(tables) or "<p>None.</p>"))
    return shown


def _problems(images: ImageFindings, kind: str) -> str:
    found = images.problems[images.problems["kind"] == kind]
    rows = found.head(MOST_ROWS)[["image_id", "split", "reason"]].itertuples(index=False, name=None)
    more = f'<p class="quiet">and {len(found) - MOST_ROWS:,} more in problems.csv</p>' if len(found) > MOST_ROWS else ""
    title = f"{len(found):,} {kind}: {KINDS[kind]}"
    table = _table(("image", "split", "reason"), rows, widths=("34%", "11%", "55%"))
    return f"<details{' open' if len(found) <= 12 else ''}><summary>{escape(title)}</summary>{table}{more}</details>"


def _thumbnails(images: ImageFindings) -> list[str]:
    """The first flagged images, as training would see them."""
    flagged = images.problems[images.problems["kind"].isin([CONST, SUSPECT])].head(MOST_THUMBNAILS)
    shown = []
    for row in flagged.itertuples():
        try:
            image = _data_uri(images.images.root / str(row.file), images.images.max_megapixels)
        except DataError:
            continue  # gone since; the table below names it
        caption = f"<b>{escape(str(row.image_id))}</b><br>{escape(str(row.reason))}"
        shown.append(f'<figure><img alt="" src="{image}"><figcaption>{caption}</figcaption></figure>')
    return shown


def _data_uri(path: Path, max_megapixels: float | None) -> str:
    from PIL import Image

    image = Image.fromarray(read_image(path, max_megapixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    content = BytesIO()
    image.save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


class _Raw(str):
    """HTML of this file's own making."""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[str] = ()) -> str:
    """A table; columns whose title begins with # hold numbers. Everything is escaped but `_Raw`."""
    numeric = [head.startswith("#") for head in heads]
    columns = "".join(f'<col style="width:{width}">' for width in widths)
    titles = "".join(
        f"<th{' class=n' if number else ''}>{escape(head.removeprefix('#'))}</th>"
        for head, number in zip(heads, numeric, strict=True)
    )
    lines = []
    for row in rows:
        cells = zip(row, numeric, strict=True)
        text = "".join(
            f'<td class="{"n" if number else "long"}">{cell if isinstance(cell, _Raw) else escape(str(cell))}</td>'
            for cell, number in cells
        )
        lines.append(f"<tr>{text}</tr>")
    return (
        f"<table><colgroup>{columns}</colgroup><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )
