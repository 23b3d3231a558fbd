"""Builds a model of MedGemma's full size with random weights, and takes training steps with it on a CPU.

python experiments/full_size_cpu/run.py [--model-dir DIR]     keeps the model, 3 GiB
"""

from __future__ import annotations

import os
from pathlib import Path

from experiments.full_size_cpu.runs import COMMAND, STEPS, compute
from experiments.results import Claim, Row, Rows, Values, table
from experiments.study import Study, main

ADAPTERS = ("lora", "dora", "delora")
MIXED, FULL = "bf16-mixed", "32-true"  # of a GPU's training, and of trainer=cpu
MODEL, USER = "model", "dora in float32"
QUICK_LAYERS = 4  # of 34 in the decoder and 27 in the vision tower
MEMORY_BOUND = 12.0


def plan(quick: bool) -> list[Row]:
    """The model, then the runs on it; a few layers are tried in one precision only."""
    layers = QUICK_LAYERS if quick else None
    runs = [(f"{adapter} in bfloat16", adapter, MIXED) for adapter in ADAPTERS]
    if not quick:
        runs.append((USER, "dora", FULL))
    return [
        Row(MODEL, {"layers": layers}),
        *(
            Row(key, {"layers": layers, "steps": STEPS, "adapter": adapter, "precision": precision})
            for key, adapter, precision in runs
        ),
    ]


def trained(rows: Rows) -> dict[str, Values]:
    return {key: values for key, values in rows.items() if key != MODEL}


def measured(values: Values) -> float:
    """The peak of a run's steps beyond what the process held before it loaded the model, in GiB."""
    return float(max(step["peak_gib"] for step in values["steps"]) - values["before_gib"])


def ratio(values: Values) -> float:
    return measured(values) / float(values["predicted"]["peak_gib"])


def claims(rows: Rows) -> list[Claim]:
    """Over all runs and steps."""
    runs = list(trained(rows).values())
    steps = [step for values in runs for step in values["steps"]]
    last = [values["steps"][-1] for values in runs]
    return [
        Claim("words of the vocabulary", rows[MODEL]["vocabulary"], 262_208, "at least"),
        Claim("steps with a finite loss", len(steps), STEPS * len(runs), "at least"),
        Claim("adapter tensors without a finite gradient", sum(s["adapter"] - s["finite"] for s in steps), 0,
              "at most"),
        Claim("adapter tensors whose gradient is zero in the last step",
              sum(s["adapter"] - s["not_zero"] for s in last), 0, "at most"),
        Claim("other tensors with a gradient", sum(s["others"] for s in steps), 0, "at most"),
        Claim("peak resident memory of a training, GiB",
              max(s["peak_gib"] for s in steps), MEMORY_BOUND, "at most"),
    ]  # fmt: skip


def blocks(rows: Rows) -> dict[str, str]:
    return {"model": _model(rows[MODEL]), "command": _command(), "steps": _steps(rows), "memory": _memory(rows)}


def _model(values: Values) -> str:
    return (
        f"{values['parameters'] / 1e9:.2f} billion parameters, {values['vocabulary']:,} words: built and saved in "
        f"{values['cpu_seconds']:.0f} CPU seconds ({values['seconds']:.0f} s), with {values['building_gib']:.1f} GiB "
        f"resident at most while it is built and {values['saving_gib']:.1f} GiB while it is saved (of these "
        f"{values['imports_gib']:.1f} GiB are Python and its libraries); {values['footprint_gib']:.2f} GiB of weights, "
        f"{values['disk_gib']:.2f} GiB on disk."
    )


def _command() -> str:
    return f"```\npython train.py adapter=dora model.pretrained=FOLDER {' '.join(COMMAND)}\n```"


def _steps(rows: Rows) -> str:
    lines = [
        [
            f"{key}: step {number}",
            f"{step['loss']:.2f}",
            f"{step['tokens']}",
            f"{step['cpu_seconds']:.0f}",
            f"{step['seconds']:.0f}",
            f"{step['finite']} of {step['adapter']}",
            f"{step['not_zero']}",
            f"{step['others']}",
        ]
        for key, values in trained(rows).items()
        for number, step in enumerate(values["steps"], start=1)
    ]
    head = ["", "loss", "tokens", "CPU s", "s", "adapter tensors with a gradient", "not zero", "others with one"]
    return table(head, lines)


def _memory(rows: Rows) -> str:
    lines = [
        [
            key,
            f"{values['trainable_parameters'] / 1e6:.1f} M",
            f"{values['before_gib']:.2f}",
            f"{values['loading_gib']:.2f}",
            f"{max(step['peak_gib'] for step in values['steps']):.2f}",
            f"{max(step['mapped_gib'] for step in values['steps']) - values['before_mapped_gib']:.2f}",
            f"{measured(values):.2f}",
            f"{values['predicted']['peak_gib']:.2f}",
            f"{ratio(values):.3f}",
        ]
        for key, values in trained(rows).items()
    ]
    head = ["GiB", "trained", "before loading", "while loading", "training", "of it file", "training less before",
            "predicted", "ratio"]  # fmt: skip
    return table(head, lines)


CACHE = Path(os.environ.get("XRAYEXP_CACHE", "~/.cache/xrayexp"))
STUDY = Study(
    Path(__file__).resolve().parent,
    plan,
    compute,
    claims,
    blocks,
    threads=os.cpu_count() or 1,
    isolated=False,
    models=CACHE / "full_size",
)

if __name__ == "__main__":
    main(STUDY)
