"""Trains the full-size MedGemma with random weights on a GPU that is limited to 12 GB, beside what was predicted.

python experiments/gpu_12gb/run.py --out DIR        on the GPU if there is one, else the tiny model on the CPU
python experiments/gpu_12gb/run.py fit RESULTS      writes the constants of `xrayexp plan` from what a GPU measured
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from experiments.gpu_12gb.figures import draw_peaks
from experiments.gpu_12gb.fit import fit
from experiments.gpu_12gb.processes import FAILED, NOT_RUN, answer_of, answers_of
from experiments.gpu_12gb.rows import error, is_compared, is_of_a_gpu
from experiments.gpu_12gb.settings import BUDGET_GIB, DEVICES, DORA, FULL, MODELS, PROMISED, SETTINGS, TINY, Setting
from experiments.gpu_12gb.tasks import MEASURED, OUT_OF_MEMORY
from experiments.results import Claim, Row, Rows, Values, table
from experiments.study import Options, Place, Study, main
from xrayexp.cli.common import positive_number
from xrayexp.errors import UserError

MINUTES = 9.0
STEPS = 3
BOUND = 0.05
RESERVE_SECONDS = 10.0  # for what comes after the last setting
FOLDER = Path(__file__).resolve().parent


@dataclass
class Bench:
    """One run of the experiment.

    Attributes:
        device: cuda or cpu; None for a GPU where there is one.
        model: a key of `MODELS`; None for the full-size one on a GPU.
        minutes: that all of it may take.
        started: when it began, on the clock of time.monotonic().
    """

    device: str | None = None
    model: str | None = None
    minutes: float = MINUTES
    started: float = field(default_factory=time.monotonic)
    _planned: list[Row] = field(default_factory=list)
    _forecasts: dict[str, Values] = field(default_factory=dict)  # by the row's key

    @property
    def study(self) -> Study:
        """The experiment on this bench."""
        return Study(FOLDER, self.plan, self.compute, claims, blocks, draw=draw_peaks, isolated=False, needs_gpu=True)

    @cached_property
    def _device(self) -> str:
        from torch import cuda

        if self.device == "cuda" and not cuda.is_available():
            raise UserError("--device cuda: torch finds no GPU here (xrayexp doctor says more): use --device cpu")
        return self.device or ("cuda" if cuda.is_available() else "cpu")

    def plan(self, quick: bool) -> list[Row]:
        """All settings, or one of them at the tiny model's size."""
        model = self.model or (FULL if self._device == "cuda" and not quick else TINY)
        chosen = (Setting(DORA, 2, 512, vision=True),) if quick else SETTINGS
        self._planned = [
            Row(
                setting.key,
                {
                    "setting": asdict(setting),
                    "model": model,
                    "device": self._device,
                    "overrides": setting.overrides(model, self._device),
                    "steps": 1 if quick else STEPS,
                },
            )
            for setting in chosen
        ]
        return self._planned

    @property
    def deadline(self) -> float:
        """When the last setting must have ended, on the clock of time.monotonic()."""
        return self.started + 60 * self.minutes - RESERVE_SECONDS

    def compute(self, row: Row, place: Place) -> Values:
        """The prediction, then what was measured or how the setting ended; a failure is no error of the experiment."""
        if not self._forecasts:  # before anything is measured: they take the cores that launch its kernels
            place.work.mkdir(parents=True, exist_ok=True)
            answers = answers_of("forecast", [_job(each, place) for each in self._planned], self.deadline)
            self._forecasts.update({each.key: found for each, found in zip(self._planned, answers, strict=True)})
        found, began = self._forecasts[row.key], time.monotonic()
        values = {"model": row.settings["model"], "on": row.settings["device"], **row.settings["setting"]}
        values |= {"predicted": None, "not_predicted": found["reason"]} if "outcome" in found else {"predicted": found}
        values |= answer_of("measure", _job(row, place), self.deadline)
        return values | {"elapsed": time.monotonic() - began}


def _job(row: Row, place: Place) -> Values:
    return row.settings | {"work": str(place.work)}


def claims(rows: Rows) -> list[Claim]:
    """Of the full-size model on a GPU alone."""
    if not is_of_a_gpu(rows):
        return []
    errors = [error(values) for values in rows.values() if is_compared(values)]
    ran_out = [values for values in rows.values() if values["outcome"] == OUT_OF_MEMORY]
    wrong = [values for values in ran_out if values["predicted"] and values["predicted"]["verdict"] == "fits"]
    untried = [values for values in rows.values() if values["outcome"] in (FAILED, NOT_RUN)]
    promised = rows[PROMISED.key]
    within = promised["outcome"] == MEASURED and promised["measured"]["card"] <= BUDGET_GIB
    return [
        Claim("settings that failed for another reason than memory, or for which there was no time", len(untried), 0,
              "at most"),
        Claim("largest error of the predicted peak of tensors", max(map(abs, errors), default=1.0), BOUND, "at most"),
        Claim("settings that ran out of memory and were said to fit", len(wrong), 0, "at most"),
        Claim(f"{PROMISED.key} tokens, trained within {BUDGET_GIB:g} GiB (1: yes)", float(within), 1, "at least"),
    ]  # fmt: skip


def blocks(rows: Rows) -> dict[str, str]:
    return {"answer": _answer(rows), "peaks": _peaks(rows), "pace": _pace(rows)}


def _answer(rows: Rows) -> str:
    if not is_of_a_gpu(rows):
        return "**Answer.** None: this is no full-size model on a GPU."
    compared = [values for values in rows.values() if is_compared(values)]
    largest = max((abs(error(values)) for values in compared), default=None)
    ran_out = [key for key, values in rows.items() if values["outcome"] == OUT_OF_MEMORY]
    said = f"{len(compared)} of {len(rows)} settings were trained within {BUDGET_GIB:g} GiB"
    said += "" if largest is None else f"; their peaks of tensors were predicted to {largest:.1%} or better"
    return f"**Answer.** {said}. Out of memory: {'; '.join(ran_out) or 'none'}."


def _peaks(rows: Rows) -> str:
    first = next(iter(rows.values()))
    head = ["GiB", "predicted", "measured", "error", "reserved, predicted", "measured", "context", "said", "was"]
    lines = []
    for key, values in rows.items():
        predicted, measured = values["predicted"] or {}, values.get("measured") or {}
        lines.append(
            [
                key,
                _number(predicted.get("allocated")),
                _number(measured["allocated"] + measured["paged"] if measured else None),
                f"{error(values):+.1%}" if is_compared(values) else "",
                _number(predicted.get("reserved")),
                _number(measured.get("reserved")),
                _number(measured.get("context")),
                predicted.get("verdict", ""),
                values["outcome"],
            ]
        )
    whys = ("not_predicted", "reason")
    reasons = [f"- {key}: {values[why]}" for key, values in rows.items() for why in whys if why in values]
    name = {FULL: "MedGemma 4B's architecture with random weights", TINY: "the tiny model"}[first["model"]]
    device = next((values["device"] for values in rows.values() if "device" in values), first["on"])
    spent = sum(values["elapsed"] for values in rows.values()) / 60
    said = f"On {device}: {name}; the settings took {spent:.1f} minutes."
    return "\n\n".join([said, table(head, lines), "![Predicted and measured peaks](peaks.png)", "\n".join(reasons)])


def _pace(rows: Rows) -> str:
    head = ["setting", "s a step", "tokens/s", "TFLOP/s", "share of the card's bfloat16 peak"]
    lines = []
    for key, values in rows.items():
        if pace := values.get("pace"):
            share = pace["share_of_peak"]
            lines.append(
                [
                    key,
                    _number(pace["seconds"]),
                    f"{pace['tokens_per_s']:,.0f}",
                    _number(pace["tflops"]),
                    "not known" if share is None else f"{share:.0%}",
                ]
            )
    return table(head, lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=tuple(DEVICES), help="default: a GPU where there is one")
    parser.add_argument("--model", choices=tuple(MODELS), help=f"default: {FULL} on a GPU, {TINY} on a CPU")
    parser.add_argument("--minutes", type=positive_number, default=MINUTES, help="for all of it (default: %(default)g)")


def _study(options: argparse.Namespace) -> Study:
    bench = Bench(options.device, options.model, options.minutes)
    if (options.out or FOLDER).resolve() == FOLDER and not options.quick and not _is_full(bench):
        raise UserError("only the full-size model on a GPU is recorded here: give --out DIR")
    return bench.study


def _is_full(bench: Bench) -> bool:
    return all(row.settings["device"] == "cuda" and row.settings["model"] == FULL for row in bench.plan(quick=False))


STUDY = Bench().study

if __name__ == "__main__":
    if sys.argv[1:2] == ["fit"]:
        fit(sys.argv[2:])
    else:
        main(STUDY, Options(_add, _study))
