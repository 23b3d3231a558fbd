"""Predictions that can be compared: those of runs, of folders full of runs, and of evaluations by themselves."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from xrayexp.errors import DataError
from xrayexp.search.results import is_sweep
from xrayexp.tracking.curves import logged_curves
from xrayexp.tracking.listing import run_folders
from xrayexp.tracking.run_folder import RunFolder

log = logging.getLogger(__name__)

PREDICTIONS, METRICS = "predictions.jsonl", "metrics.json"
BEST, OTHERS = "best", ("last", "none")
SPLITS = ("test_", "validation_")  # how the names of evaluations on a run's own data begin, unless it is the best's


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation.

    Attributes:
        name: short, and unlike that of the others.
        folder: where its predictions lie.
        run: whose it is; None for predictions that lie by themselves.
        checkpoint: of the run: best, last or none, or the name of a baseline beside it; empty without a run.
    """

    name: str
    folder: Path
    run: RunFolder | None
    checkpoint: str

    @property
    def predictions(self) -> Path:
        """The file."""
        return self.folder / PREDICTIONS

    def config(self) -> dict[str, Any]:
        """The run's config; empty without a run."""
        if self.run is None:
            return {}
        config: Any = OmegaConf.to_container(self.run.config())
        return dict(config)

    def summary(self) -> dict[str, Any]:
        """The run in a few numbers; empty while there are none."""
        return {} if self.run is None else _json(self.run.summary_file)

    def scores(self) -> dict[str, Any]:
        """What metrics.json says; empty where nothing was scored."""
        return _json(self.folder / METRICS)

    def training_shares(self) -> dict[str, float] | None:
        """Share of the training images in which each finding is true; None where metrics.json does not say."""
        return training_shares_of(self.folder)

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """What the run logged by optimiser step, by name; empty where it logged to no file."""
        return {} if self.run is None else logged_curves(self.run)


def training_shares_of(folder: Path) -> dict[str, float] | None:
    """Share of the training images in which each finding is true, as metrics.json beside the predictions says it."""
    return _json(folder / METRICS).get("training_shares")


def find_evaluated(places: Sequence[str], split: str, needed: bool = True) -> list[Evaluated]:
    """The evaluations that are asked for, in this order, each once.

    Args:
        places: of each a run's folder, a folder with runs below, an evaluation's folder, or a pattern of these.
        split: whose predictions are taken of a run.
        needed: whether a run that is named must have predictions, and of the runs below a folder at least one.

    Raises:
        DataError: there is nothing at a place, or what is needed is missing.
    """
    found = {
        folder.resolve(): folder
        for place in _expanded(places)
        for folder in _evaluations(place, split, needed)
    }  # fmt: skip
    runs = {folder: run_of(folder) for folder in found.values()}
    names = short_names([run.path if run else folder for folder, run in runs.items()])
    evaluated = []
    for (folder, run), name in zip(runs.items(), names, strict=True):
        checkpoint = "" if run is None else _checkpoint(folder)
        # "none" of test_none; "vindr" of a run's evaluation on other data.
        beside = "" if run is None else folder.name.removeprefix(split).removeprefix("_")
        evaluated.append(Evaluated(f"{name} ({beside})" if beside else name, folder, run, checkpoint))
    return evaluated


def run_of(folder: Path) -> RunFolder | None:
    """The run that an evaluation's folder lies in: RUN/evaluation/SPLIT."""
    above = RunFolder(folder.resolve().parent.parent)
    return RunFolder(folder.parent.parent) if above.config_file.exists() else None


def runs_at(places: Sequence[str]) -> list[RunFolder]:
    """The runs that are asked for, evaluated or not, in this order, each once.

    Args:
        places: as in `find_evaluated`.

    Raises:
        DataError: there is nothing at a place.
    """
    found: dict[Path, RunFolder] = {}
    for place in _expanded(places):
        for run in _runs(place):
            found.setdefault(run.path.resolve(), run)
    return list(found.values())


def _runs(path: Path) -> Iterator[RunFolder]:
    if (path / PREDICTIONS).exists():
        run = run_of(path)
        yield from [run] if run else []
    elif RunFolder(path).config_file.exists():
        yield RunFolder(path)
    else:
        yield from map(RunFolder, run_folders(path))


def _expanded(places: Sequence[str]) -> Iterator[Path]:
    """The folders that places and patterns of places stand for."""
    for place in places:
        path = Path(place)
        if path.is_dir():
            yield path
        elif path.exists() or not glob.has_magic(place):
            raise DataError(f"{place}: no such folder")
        else:
            matches = sorted(glob.glob(place, recursive=True))  # noqa: PTH207 - of an absolute pattern, too
            if not matches:
                raise DataError(f"{place}: nothing matches")
            yield from (Path(match) for match in matches if Path(match).is_dir())


def _evaluations(path: Path, split: str, needed: bool) -> list[Path]:
    """Those at one place."""
    if (path / PREDICTIONS).exists():
        return [path]
    if not RunFolder(path).config_file.exists():
        return _below(path, split, needed)
    folder = RunFolder(path).evaluation(split, BEST)
    if (folder / PREDICTIONS).exists():
        return [folder]
    if needed:
        raise DataError(f"{path} has no predictions on the {split} split: {evaluate_command(path, split)}")
    return []


def evaluate_command(run: Path, split: str) -> str:
    """What makes a run's predictions."""
    return f"python evaluate.py run={run}{'' if split == 'test' else f' split={split}'}"


def _below(path: Path, split: str, needed: bool) -> list[Path]:
    """Of all runs below a folder; some may have failed before they were evaluated."""
    runs = [RunFolder(folder) for folder in run_folders(path)]
    found = [folder for run in runs if ((folder := run.evaluation(split, BEST)) / PREDICTIONS).exists()]
    if not found and (needed or not (runs or is_sweep(path))):
        raise DataError(f"{path}: holds neither {PREDICTIONS} nor a run with predictions on the {split} split")
    if 0 < len(found) < len(runs):
        log.warning(
            "%s: %d of %d runs have no predictions on the %s split", path, len(runs) - len(found), len(runs), split
        )
    return found


def _checkpoint(folder: Path) -> str:
    """SPLIT_CHECKPOINT, or SPLIT alone for the best; the name of a data set, such as padchest_gr, stands for SPLIT.

    A baseline's name stands for CHECKPOINT, known as such beside a split alone.
    """
    for split in SPLITS:
        if folder.name.startswith(split):
            return folder.name.removeprefix(split)
    last = folder.name.rpartition("_")[2]
    return last if last in OTHERS else BEST


def short_names(paths: Sequence[Path]) -> list[str]:
    """A name for each: the path below what all have in common, and its own last part at least."""
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < 2:
        return [path.name for path in resolved]
    common = Path(os.path.commonpath(resolved))
    return [path.relative_to(common).as_posix() if path != common else path.name for path in resolved]


def _json(file: Path) -> dict[str, Any]:
    """What a file holds; empty where there is none."""
    if not file.exists():
        return {}
    try:
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return dict(content)
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
