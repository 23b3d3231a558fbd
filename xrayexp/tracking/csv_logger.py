"""The log that every run has: logs/metrics.csv, a row for whatever is logged together, and it survives a resume."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

STEP = "step"


class CsvLogger(Logger):
    """Writes every row at once, and goes on with the file of an earlier process.

    Lightning's own deletes such a file, and keeps the latest rows in memory, where a kill loses them.

    Args:
        folder: of metrics.csv; made with the first row.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.file = Path(folder) / "metrics.csv"
        self._columns: list[str] | None = None  # None until the file is open

    @property
    def name(self) -> str:
        return self.file.parent.name

    @property
    def version(self) -> str:
        return ""

    @property
    def experiment(self) -> Path:
        """The file."""
        return self.file

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config lies in the run folder."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Appends a row. The first one of a process replaces all rows of its step and of later ones: those are of
        steps that a resumed run takes again."""
        row: dict[str, Any] = {STEP: step, **metrics}
        if self._columns is None:
            self._open(before=0 if step is None else step)
        assert self._columns is not None
        if new := sorted(row.keys() - set(self._columns)):
            self._rewrite(self._rows(), [*self._columns, *new])
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _open(self, before: int) -> None:
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._rewrite([], [STEP])
            return
        rows = self._rows()
        self._rewrite([row for row in rows if int(row[STEP]) < before], list(rows[0]) if rows else [STEP])

    def _rows(self) -> list[dict[str, str]]:
        """The rows on disk; the last one may have been cut off by a kill."""
        text = self.file.read_text(encoding="utf-8")
        return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        temporary = self.file.with_name(f".{self.file.name}.tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(self.file)
        self._columns = columns
