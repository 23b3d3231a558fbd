"""Makes the base of the embedded default: a tiny Gemma 3 that can see and speak, and writes it to xrayexp/models/tiny.

python experiments/tiny_base/run.py --out outputs/rebuilt     builds a second one, to compare the hash of its weights
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from experiments.results import Claim, Row, Rows, Values, table
from experiments.study import ROOT, Place, Study, main

THREADS = 1  # the weights depend on it


@dataclass(frozen=True)
class Recipe:
    """How the base is made: patients whose images are shown, patients whose labels are text, steps of both stages."""

    patients: int = 9000
    text_patients: int = 6000
    see_steps: int = 1500
    speak_steps: int = 4000


QUICK = Recipe(patients=40, text_patients=60, see_steps=2, speak_steps=3)


def plan(quick: bool) -> list[Row]:
    recipe = asdict(QUICK if quick else Recipe())
    tested = recipe | {"held_out_patients": 4 if quick else 650}
    return [
        Row("see", recipe),
        Row("speak", recipe),
        Row("captions", tested),
        Row("reports", tested),
        Row("checkpoint", recipe),
    ]


def compute(row: Row, place: Place) -> Values:
    from experiments.tiny_base import build  # brings torch

    build.prepare(THREADS)
    base = ROOT / "xrayexp" / "models" / "tiny" if place.recorded else place.out / "model"
    settings = row.settings
    seen = place.work / f"see-{sha256(repr(settings).encode()).hexdigest()[:12]}"
    population = {"patients": settings["patients"], "text_patients": settings["text_patients"]}
    match row.key:
        case "see":
            return build.see(seen, **population, steps=settings["see_steps"])
        case "speak":
            if not seen.exists():  # the row is recorded, but its model was removed
                build.see(seen, **population, steps=settings["see_steps"])
            return build.speak(seen, base, **population, steps=settings["speak_steps"])
        case "captions":
            return build.captions(base, patients=settings["held_out_patients"])
        case "reports":
            return build.reports(base, patients=settings["held_out_patients"])
        case "checkpoint":
            return build.checkpoint(base)
        case key:
            raise KeyError(key)


def claims(rows: Rows) -> list[Claim]:
    return [
        Claim("captions of held-out plain phantoms that are right", rows["captions"]["accuracy"], 0.9, "at least"),
        Claim("soft match on the report prompt, before fine-tuning", rows["reports"]["soft_match"], 0.05, "at most"),
        Claim("size of the weights in MB", rows["checkpoint"]["bytes"] / 1e6, 2.0, "at most"),
    ]


def blocks(rows: Rows) -> dict[str, str]:
    see, speak, captions, reports, checkpoint = (
        rows[key] for key in ("see", "speak", "captions", "reports", "checkpoint")
    )
    stages = table(
        ["stage", "shown", "loss of the last 100 steps", "CPU s"],
        [
            ["see", f"{see['images']:,} images", f"{see['loss']:.4f}", f"{see['cpu_seconds']:.0f}"],
            ["speak", f"the same, and {speak['texts']:,} texts",
             f"{speak['caption_loss']:.4f} (captions), {speak['rewrite_loss']:.4f} (text)",
             f"{speak['cpu_seconds']:.0f}"],
        ],
    )  # fmt: skip
    scores = table(
        ["on held-out plain phantoms", "images", "score"],
        [
            ["captions that are right", f"{captions['images']}", f"{captions['accuracy']:.3f}"],
            ["soft match on the report prompt", f"{reports['images']}", f"{reports['soft_match']:.3f}"],
            ["unparseable on the report prompt", f"{reports['images']}", f"{reports['unparseable_rate']:.3f}"],
        ],
    )
    made = (
        f"{checkpoint['parameters']:,} parameters, {checkpoint['vocabulary']} words, "
        f"{checkpoint['bytes'] / 1e6:.2f} MB; SHA-256 of the weights `{checkpoint['sha256']}`."
    )
    says = f"Asked for a report, the base says, for example: `{' '.join(reports['example'].split())}`"
    return {"build": "\n\n".join((stages, scores, made, says))}


STUDY = Study(Path(__file__).resolve().parent, plan, compute, claims, blocks, threads=THREADS, isolated=False)

if __name__ == "__main__":
    main(STUDY)
