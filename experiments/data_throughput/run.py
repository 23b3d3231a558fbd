"""Reads the same 16-bit PNGs in several ways, in turns, and compares images per second of CPU time.

python experiments/data_throughput/run.py     one row after the other: two at a time would disturb each other
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from experiments.data_throughput.loaders import FROM_CACHE, loaders
from experiments.data_throughput.readers import CACHE, NEEDS, PIL_LOOP, installed, readers
from experiments.results import Claim, Row, Rows, Values, table
from experiments.study import Place, Study, main

ROUNDS = 5
BOUND = 3.0  # times a plain PIL loop
FULL = {"height": 2500, "width": 2048, "distinct": 12, "copies": 4, "epochs": 4, "repeats": 20}
QUICK = {"height": 500, "width": 410, "distinct": 2, "copies": 1, "epochs": 1, "repeats": 2}


def plan(quick: bool) -> list[Row]:
    """Each row goes through every way once; the first one differs from row to row."""
    settings = QUICK if quick else FULL
    return [Row(f"round {number}", settings | {"first": number}) for number in range(1 if quick else ROUNDS)]


def compute(row: Row, place: Place) -> Values:
    """Images, CPU seconds and seconds of every way."""
    from experiments.data_throughput.clock import Clock
    from experiments.data_throughput.radiographs import files_of, folder_of_radiographs

    folder = folder_of_radiographs(place.work, row.settings)
    paths = files_of(folder)
    singly = readers(paths, place.work)
    together = loaders(folder, place.work, row.settings["epochs"])
    names = [*singly, *together]
    ways = {}
    for shift in range(len(names)):
        name = names[(row.settings["first"] + shift) % len(names)]
        if name in together:
            ways[name] = together[name]()
            continue
        singly[name](paths[0])  # what is done once: imports, opening the cache
        read = paths * (row.settings["repeats"] if name == CACHE else 1)
        clock = Clock()
        for path in read:
            singly[name](path)
        ways[name] = clock.read(len(read))
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    return {"ways": {name: ways[name] for name in names}, "installed": installed(), "megabytes": megabytes}


def per_core(rows: Rows, way: str, clock: str = "cpu") -> list[float]:
    """Images per second of CPU time, or by the clock on the wall, in every round."""
    measured = [values["ways"][way] for values in rows.values()]
    return [one["images"] / one[clock] for one in measured]


def times_pil(rows: Rows, way: str) -> list[float]:
    """How many times as many as the PIL loop of the same round."""
    pairs = zip(per_core(rows, way), per_core(rows, PIL_LOOP), strict=True)
    return [own / plain for own, plain in pairs]


def claims(rows: Rows) -> list[Claim]:
    """From the slowest of the loaders, which differ in the number of workers."""
    found = min(median(times_pil(rows, way)) for way in FROM_CACHE.values())
    return [Claim("images per core, loader from the cache, times a plain PIL loop's", found, BOUND, "at least")]


def blocks(rows: Rows) -> dict[str, str]:
    head = ["way", "images/s per core", "CPU ms an image", "times the PIL loop", "images/s by the clock"]
    first = next(iter(rows.values()))
    lines = [
        [
            way,
            _with_spread(per_core(rows, way)),
            f"{1e3 / median(per_core(rows, way)):.2f}",
            _with_spread(times_pil(rows, way)),
            _number(median(per_core(rows, way, "wall"))),
        ]
        for way in first["ways"]
    ]
    versions = first["installed"]
    lines += [[way, "not installed", "", "", ""] for way, found in versions.items() if found is None]
    slowest = min(median(per_core(rows, way)) for way in FROM_CACHE.values())
    said = (
        f"Files of {first['megabytes']:.1f} MB; median of the rounds (lowest to highest)"
        f"{''.join(f'; {NEEDS[way]} {found}' for way, found in versions.items() if found)}.\n\n"
        f"**A GPU is fed {slowest:.0f} images/s per core** from the cache, with the slowest number of workers."
    )
    return {"throughput": f"{said}\n\n{table(head, lines)}"}


def _with_spread(values: list[float]) -> str:
    return f"{_number(median(values))} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(rows: Rows, folder: Path) -> None:
    """A bar for every way, with the spread of its rounds."""
    from matplotlib.figure import Figure

    ways = list(next(iter(rows.values()))["ways"])
    middle = [median(per_core(rows, way)) for way in ways]
    spread = [
        (value - min(per_core(rows, way)), max(per_core(rows, way)) - value)
        for way, value in zip(ways, middle, strict=True)
    ]
    figure = Figure(figsize=(8, 0.32 * len(ways) + 0.9), dpi=120, layout="constrained")
    axes = figure.subplots()
    colours = ["#0969da" if way in (*FROM_CACHE.values(), CACHE) else "#8c959f" for way in ways]
    axes.barh(ways, middle, xerr=list(zip(*spread, strict=True)), color=colours, height=0.62, ecolor="#1f2328")
    for place, value in enumerate(middle):
        axes.text(value * 1.15, place, _number(value), va="center", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(1, max(middle) * 3)
    axes.invert_yaxis()
    axes.set_xlabel("images per second of one core")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(folder / "throughput.png")


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks, draw)

if __name__ == "__main__":
    main(STUDY)
