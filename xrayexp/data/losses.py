"""A model's loss on every training image, as a file: what `xrayexp losses` writes and a curriculum reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xrayexp.errors import DataError
from xrayexp.replacing import replaced

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE, LOSS = "image_id", "loss"
NAMED = 3  # images that an error names

_AGAIN = "make it again with `xrayexp losses RUN`, where RUN has this run's data and selection"


def write_losses(file: Path, losses: Mapping[str, float | None]) -> None:
    """Writes a CSV at once or not at all.

    Args:
        file: where; an earlier one is replaced.
        losses: by ImageID, in nats per supervised token; None for an image that could not be read.
    """
    table = pd.DataFrame({IMAGE: list(losses), LOSS: pd.array(list(losses.values()), dtype="Float64")})
    with replaced(file) as temporary:
        table.to_csv(temporary, index=False)  # with every digit


def read_losses(file: Path, image_ids: Sequence[str]) -> NDArray[np.float64]:
    """The losses of images, [images]; one that the model could not read counts as the hardest.

    Raises:
        DataError: there is no such file, it is none of `write_losses`, or it lacks an image.
    """
    try:
        table = pd.read_csv(file, dtype={IMAGE: str, LOSS: np.float64}, keep_default_na=False, na_values={LOSS: [""]})
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the losses in {file} ({str(error).splitlines()[0]}): {_AGAIN}") from error
    nothing = table[LOSS].isna().all() if LOSS in table else True
    if list(table) != [IMAGE, LOSS] or nothing or np.isinf(table[LOSS]).any() or table[IMAGE].duplicated().any():
        raise DataError(f"{file} does not hold one finite {LOSS} for each {IMAGE}: {_AGAIN}")
    known = table.set_index(IMAGE)[LOSS]
    missing = [image_id for image_id in image_ids if image_id not in known.index]
    if missing:
        raise DataError(
            f"{file} has no loss for {len(missing):,} of {len(image_ids):,} training images, such as "
            f"{', '.join(missing[:NAMED])}: {_AGAIN}"
        )
    found = known.loc[list(image_ids)]
    return found.fillna(found.max()).to_numpy()
