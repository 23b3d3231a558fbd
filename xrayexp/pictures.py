"""The images of a run again, for a page: read through the run's own data source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.utils import instantiate

from xrayexp.errors import UserError
from xrayexp.resume import config_of, moved
from xrayexp.tracking.page.picture import Picture

if TYPE_CHECKING:
    from xrayexp.data.examples import Source
    from xrayexp.tracking.run_folder import RunFolder


def pictures(run: RunFolder | None, image_ids: Sequence[str], data_root: str | None = None) -> dict[str, Picture]:
    """Every image, or why it cannot be shown: a page is worth reading without them.

    Args:
        run: whose data source has the images; None for predictions without a run.
        image_ids: which ones.
        data_root: folder of the data set on this machine; None for the run's.

    Raises:
        ConfigError: `data_root` is given for data without a folder.
    """
    if run is None:
        return dict.fromkeys(image_ids, Picture(reason="these predictions belong to no run that could read images"))
    config = moved(config_of(run), data_root=data_root)
    try:
        source: Source = instantiate(config.data.source, _convert_="all")
        absent = source.absent(image_ids)
    except UserError as error:
        return dict.fromkeys(image_ids, Picture(reason=_first_line(error)))
    return {image_id: _picture(source, image_id, absent.get(image_id)) for image_id in image_ids}


def _picture(source: Source, image_id: str, absent: str | None) -> Picture:
    if absent is not None:
        return Picture(reason=absent)
    try:
        return Picture(source.image(image_id))
    except UserError as error:
        return Picture(reason=_first_line(error))


def _first_line(error: UserError) -> str:
    return str(error).partition("\n")[0]
