"""`xrayexp data check`: the data of a training's command line, looked at before it is trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xrayexp.config import config_dir, parse_section, register_resolvers
from xrayexp.errors import ConfigError, DataError

if TYPE_CHECKING:
    from xrayexp.data.audit.audit import Audit
    from xrayexp.data.config import DataSection

DEFAULT_DATA = "data=padchest"
PAGE, PROBLEMS = "report.html", "problems.csv"


def check_data(overrides: Sequence[str], workers: int | None) -> Audit:
    """Looks at a data set.

    Args:
        overrides: of conf/train.yaml, as `python train.py` takes them; without `data=...`, PadChest.
        workers: processes that read images; None for one per core.

    Raises:
        UserError: the config or the label file cannot be used.
    """
    from hydra.utils import instantiate

    from xrayexp.data.audit.audit import audit, audit_folder
    from xrayexp.data.label_file import NoLabelFile

    section = data_section(overrides)
    processes = workers if workers is not None else _cores()
    # Those that a training would drop are what a check is there to show.
    chosen = section.source | ({"suspects": "keep"} if section.source.get("suspects") == "drop" else {})
    try:
        return audit(section, instantiate(chosen, _convert_="all"), processes)
    except NoLabelFile:
        if section.root is None:
            raise
        return audit_folder(section, Path(section.root), processes)


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def data_section(overrides: Sequence[str]) -> DataSection:
    """The `data` section of the config that `python train.py OVERRIDES` gets; without `data=...`, PadChest's.

    Raises:
        ConfigError: something in it is wrong.
        HydraException, OmegaConfBaseException: an override cannot be used.
    """
    from hydra import compose, initialize_config_dir

    from xrayexp.data.config import DataSection

    register_resolvers()
    chosen = any(override.startswith("data=") for override in overrides)
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        cfg = compose("train", [*overrides] if chosen else [DEFAULT_DATA, *overrides])
    problems: list[str] = []
    section = parse_section(cfg, "data", DataSection, problems)
    if problems or section is None:
        raise ConfigError(problems)
    return section


def write_report(audit: Audit, folder: Path) -> Path:
    """Writes the page and the list of problems.

    Returns:
        The page.

    Raises:
        DataError: the folder cannot be written.
    """
    from xrayexp.data.audit.page import write_page

    try:
        write_page(audit, folder / PAGE)
        if audit.images is not None:
            audit.images.problems.to_csv(folder / PROBLEMS, index=False)
    except OSError as error:
        raise DataError(
            f"{folder}: the report cannot be written ({error}); choose another folder with --out"
        ) from error
    return folder / PAGE
