"""Metrics as a table that anything can read, and that a resumed run continues."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from xrayexp.errors import UserError
from xrayexp.replacing import replaced

STEP = "step"
Row = Mapping[str, Any]


class CsvLogger(Logger):
    """Writes metrics.csv: a row per logged step, a column per metric, empty where a row has no such metric.

    Lightning's own logger deletes the file of an earlier process. This one continues it: the first row, logged at
    step s, replaces the old rows from s on, because a resumed run repeats what came after its checkpoint.

    Args:
        save_dir: folder of the file; it is made with the first row.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self._save_dir = Path(save_dir)
        self._columns: list[str] | None = None  # None until this process has written
        self._next_step = 0

    @property
    def name(self) -> str:
        """Of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: one run folder holds one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the file."""
        return str(self._save_dir)

    @property
    def file(self) -> Path:
        """The table."""
        return self._save_dir / "metrics.csv"

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Writes a row, at once.

        Args:
            metrics: numbers, or tensors of one.
            step: optimiser step; the one after the last row's when None.
        """
        step = self._next_step if step is None else int(step)
        row = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        row[STEP] = step
        self._next_step = step + 1
        if self._columns is not None and row.keys() <= set(self._columns):
            with self.file.open("a", newline="", encoding="utf-8") as file:
                file.write(_lines([row], self._columns))
        else:
            self._rewrite(row, from_this_process=self._columns is not None)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run folder's config.yaml has them."""

    def log_summary(self, values: Mapping[str, float | str], step: int) -> None:
        """Nothing: the run folder's summary.json has it."""

    def _rewrite(self, row: Row, from_this_process: bool) -> None:
        """Writes the file anew with one more row, whose columns may be new. The old file stays until that is done."""
        old = _rows(self.file)
        if not from_this_process:
            old = [earlier for earlier in old if int(earlier[STEP]) < row[STEP]]
        columns = sorted({STEP, *row, *(name for earlier in old for name in earlier)})
        header = {name: name for name in columns}
        with replaced(self.file) as new:
            new.write_text(_lines([header, *old, row], columns), encoding="utf-8", newline="")
        self._columns = columns


def _lines(rows: Sequence[Row], columns: Sequence[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns).writerows(rows)
    return text.getvalue()


def _rows(file: Path) -> list[dict[str, str]]:
    """The complete rows of a table; none where there is no file.

    Raises:
        UserError: when the file is something else.
    """
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # the process was killed while it wrote
    rows = list(csv.DictReader(lines))
    if any(not (row.get(STEP) or "").lstrip("-").isdecimal() for row in rows):
        raise UserError(f"{file} cannot be continued: not every row has a step")
    return rows
