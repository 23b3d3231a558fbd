"""One page with images, what they show and what the model says: no script, nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xrayexp.tracking.examples import ExampleRow

LARGEST = 384  # pixels of the longer side of an image
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1f2328 }
h1 { font-size: 1.3rem; margin-bottom: .2rem }
.scores { color: #57606a; margin-bottom: 1.5rem; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem }
article { display: grid; grid-template-columns: 16rem 1fr 1fr; gap: 1.5rem }
article { border-top: 1px solid #d0d7de; padding: 1rem 0 }
img { width: 100%; background: #000 }
h2 { font-size: .9rem; margin: 0 0 .3rem; color: #57606a; font-weight: 600 }
pre { font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
ul { list-style: none; padding: 0; margin: .6rem 0 0 }
.right { color: #1a7f37 } .missed { color: #9a6700 } .invented { color: #cf222e }
figcaption { font-size: .8rem; color: #57606a; overflow-wrap: anywhere } figure { margin: 0 }
@media (max-width: 50rem) { article { grid-template-columns: 1fr } }
"""


def render_page(title: str, scores: Mapping[str, float], rows: Sequence[ExampleRow]) -> str:
    """The page as HTML.

    Args:
        title: of the page.
        scores: of the whole validation set, by name.
        rows: the examples.
    """
    head = "".join(f"<span>{escape(name)} <b>{value:.3f}</b></span>" for name, value in scores.items())
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>\n'
        f'<h1>{escape(title)}</h1><p class="scores">{head}</p>\n{"".join(map(_article, rows))}</html>\n'
    )


def _article(row: ExampleRow) -> str:
    differences = [
        *(f'<li class="missed">\u2212 missed: {escape(name)}</li>' for name in row.missed),
        *(f'<li class="invented">+ invented: {escape(name)}</li>' for name in row.invented),
    ] or ['<li class="right">\u2713 the same findings</li>']
    return (
        f'<article><figure><img alt="" src="{_data_uri(row.image)}"><figcaption>{escape(row.image_id)}</figcaption>'
        f"</figure><div><h2>truth</h2><pre>{escape(row.truth)}</pre></div>"
        f"<div><h2>model</h2><pre>{escape(row.prediction)}</pre><ul>{''.join(differences)}</ul></div></article>\n"
    )


def _data_uri(image: NDArray[np.uint8]) -> str:
    """A JPEG inside the page."""
    picture = Image.fromarray(image)
    picture.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
