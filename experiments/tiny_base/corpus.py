"""What the base is pre-trained on: plain phantoms with captions, and captions rewritten as reports."""

from __future__ import annotations

from omegaconf import OmegaConf

from xrayexp.config import config_dir
from xrayexp.data.phantom import FINDINGS, PhantomSource
from xrayexp.data.phantom_drawing import Acquisition
from xrayexp.data.report import NORMAL, Finding, write_report

# Easier to see than the default data set, and its seeds are others.
PLAIN = Acquisition(contrast=(0.8, 1.0), noise=(0.01, 0.035), rotation=3.0, zoom=(0.96, 1.04), shift=0.03)
DRAWN_SIZE = 96  # pixels
IMAGE_SEED, TEXT_SEED, HELD_OUT_SEED = 100, 101, 556

# No pre-training image shows these: fine-tuning has to teach how they look.
UNSEEN = ("scoliosis", "pacemaker", "laminar atelectasis")
SEEN = tuple(name for name in FINDINGS if name not in UNSEEN)

CAPTION_PROMPT = "What do you see?"
REWRITE_PROMPT = "Write this as a report:"


def plain_phantoms(patients: int, seed: int) -> PhantomSource:
    """Phantoms with the findings that the base may see."""
    return PhantomSource(patients, DRAWN_SIZE, seed, PLAIN, SEEN)


def all_phantoms(patients: int) -> PhantomSource:
    """Phantoms with every finding: their labels become text, their images are never drawn."""
    return PhantomSource(patients, DRAWN_SIZE, TEXT_SEED, PLAIN)


def caption(findings: tuple[Finding, ...]) -> str:
    """The text format of pre-training, other than the report's."""
    if findings == (Finding(NORMAL),):
        return "a normal chest"
    return "; ".join(f"{f.name} at {' '.join(f.locations)}" if f.locations else f.name for f in findings)


def report_prompt() -> str:
    """What the default data set asks."""
    prompt: str = OmegaConf.load(config_dir() / "data" / "phantom.yaml").prompt
    return prompt


def tokenizer_texts(corpus: list[tuple[Finding, ...]]) -> list[str]:
    """The texts that the tokenizer's words come from; the prompts often enough to become whole words."""
    prompts = [f"\n{prompt}" for prompt in (CAPTION_PROMPT, REWRITE_PROMPT, report_prompt())]
    roles = ["user\n", "model\n"]  # of the chat template
    return [*map(write_report, corpus), *map(caption, corpus), *(prompts + roles) * 200]
