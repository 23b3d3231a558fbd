"""`xrayexp gallery`: the reports of a run that are most wrong, beside their images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xrayexp.errors import DataError
from xrayexp.metrics.marks import wrongness
from xrayexp.metrics.predictions import read_predictions
from xrayexp.metrics.structured.relevance import Relevance
from xrayexp.pictures import pictures
from xrayexp.tracking.evaluated import find_evaluated
from xrayexp.tracking.page.gallery_page import Gallery, write_gallery_page

PAGE = "gallery.html"


@dataclass(frozen=True)
class GalleryRequest:
    """What `xrayexp gallery` is asked for.

    Attributes:
        run: folder of a run or of an evaluation.
        split: whose predictions are shown.
        most: how many images are shown at most.
        out: the page; None for gallery.html beside the predictions.
        relevance: a YAML with the weights of findings; None for the table of this package.
        data_root: folder of the data set on this machine; None for the run's.
    """

    run: str
    split: str = "test"
    most: int = 60
    out: Path | None = None
    relevance: str | None = None
    data_root: str | None = None


def gallery(request: GalleryRequest) -> Path:
    """Writes the page, and returns where.

    Raises:
        UserError: for whatever the user can fix.
    """
    relevance = Relevance(request.relevance)
    evaluated = find_evaluated([request.run], request.split)
    if len(evaluated) > 1:
        raise DataError(f"{request.run} holds {len(evaluated)} runs: the gallery shows one")
    [one] = evaluated
    reports = read_predictions(one.predictions)
    scored = [(report, wrongness(report, relevance.weight)) for report in reports]
    wrong = sorted((pair for pair in scored if pair[1] > 0), key=lambda pair: (-pair[1], pair[0].image_id))
    worst = wrong[: request.most]
    page = request.out or one.folder / PAGE
    shown = pictures(one.run, [report.image_id for report, _ in worst], request.data_root)
    write_gallery_page(Gallery(one.name, request.split, worst, len(reports), len(wrong), shown), page)
    return page
