"""Fine-tunes the embedded default with LoRA and DoRA, three seeds each, and three controls that must fall behind.

python experiments/embedded_default/run.py --jobs 2     all rows, two at a time
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from experiments.embedded_default.claims import ADAPTERS, claims, title
from experiments.embedded_default.runs import SCORES, compute, digest
from experiments.results import Row, Rows, Values, table
from experiments.study import ROOT, Study, main

SEEDS = (0, 1, 2)
BASE = ROOT / "xrayexp" / "models" / "tiny" / "model.safetensors"

QUICK = (
    "data.source.patients=60",
    "data.max_images={train: 16, validation: 2, test: 4}",
    "trainer.max_steps=2",
    "trainer.validate_every=2",
    "trainer.log_every=1",
    "trainer.effective_batch_size=8",
    "model.max_new_tokens=8",
    "metrics.bootstrap=20",
)


def plan(quick: bool) -> list[Row]:
    base = sha256(BASE.read_bytes()).hexdigest()[:12] if BASE.exists() else None

    def row(key: str, variant: str, *overrides: str) -> Row:
        given = [*overrides, *(QUICK if quick else ())]
        settings = {"variant": variant, "overrides": given, "config": digest(given), "base": base}
        return Row(key, settings)

    seeds = SEEDS[:1] if quick else SEEDS
    return [
        row("before", "no adapter"),
        *(row(f"{name}-{seed}", "default", f"adapter={name}", f"seed={seed}") for name in ADAPTERS for seed in seeds),
        # The same scale alpha / r as the default, so that nothing but the rank differs.
        row("rank-1", "default", "adapter.r=1", "adapter.alpha=2"),
        row("random-base", "random base"),
        row("shuffled-labels", "shuffled labels"),
    ]


def blocks(rows: Rows) -> dict[str, str]:
    head = ["run", *(name.replace("_", " ") for name in SCORES), "CPU s", "trained parameters"]
    lines = [[title(key), *(_cell(values, name) for name in SCORES), *_costs(values)] for key, values in rows.items()]
    return {"scores": f"{table(head, lines)}\n\n{rows['before']['images']} test images, 95 % intervals by patient."}


def _cell(values: Values, metric: str) -> str:
    found = values["metrics"][metric]
    if found["value"] is None:
        return "-"
    interval = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['value']:.3f}{interval}"


def _costs(values: Values) -> list[str]:
    if "fit_cpu_seconds" not in values:
        return ["-", "-"]
    return [f"{values['fit_cpu_seconds']:.0f}", f"{values['trainable_parameters']:,}"]


def draw(rows: Rows, out: Path) -> None:
    from experiments.embedded_default import figures  # brings matplotlib

    figures.draw_scores(rows, out / "scores.png")
    figures.draw_phantom(rows, out / "phantom.png")


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks, draw)

if __name__ == "__main__":
    main(STUDY)
