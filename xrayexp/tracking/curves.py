"""What a run logged, by optimiser step."""

from __future__ import annotations

import csv

from xrayexp.tracking.run_folder import RunFolder


def logged_curves(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """By name the (step, value) of everything in logs/metrics.csv; empty where the run logged to no file."""
    if not run.log_file.exists():
        return {}
    found: dict[str, list[tuple[int, float]]] = {}
    with run.log_file.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name != "step":
                    found.setdefault(name, []).append((int(row["step"]), float(value)))
    return found
