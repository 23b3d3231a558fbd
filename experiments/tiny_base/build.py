"""Builds the base stage by stage, and measures what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from experiments.results import Values
from experiments.tiny_base.corpus import (
    CAPTION_PROMPT,
    HELD_OUT_SEED,
    IMAGE_SEED,
    all_phantoms,
    caption,
    plain_phantoms,
    report_prompt,
    tokenizer_texts,
)
from experiments.tiny_base.pretrain import REWRITE_EVERY, Pool, Pretrainer, build_model
from experiments.tiny_base.processor import build_processor
from xrayexp.data.collate import Batch, ReportEncoder
from xrayexp.data.examples import Example, examples_from_table
from xrayexp.data.report import Finding, Report, parse_report
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scoring import score
from xrayexp.metrics.structured.form import Form
from xrayexp.metrics.structured.matches import Matches
from xrayexp.models.loading import load_model, load_processor
from xrayexp.progress import watch
from xrayexp.quiet import quiet_libraries
from xrayexp.training.generation import generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"
MAX_LENGTH = 128  # tokens of a caption with its prompt, and of an answer
EVAL_BATCH = 100
LAST = 100  # steps whose mean loss is recorded
INITIAL_SEED, SEE_SEED, SPEAK_SEED = 0, 0, 1


def prepare(threads: int) -> None:
    """To be called before anything else here: the weights depend on the number of threads."""
    torch.set_num_threads(threads)
    quiet_libraries()


def see(seen: Path, *, patients: int, text_patients: int, steps: int) -> Values:
    """A new model whose vision tower has learned the findings; writes it to the folder `seen`."""
    encoder, corpus, pool = _material(patients, text_patients)
    torch.manual_seed(INITIAL_SEED)
    model = build_model(encoder.processor)
    trainer = Pretrainer(model, encoder, pool, corpus, SEE_SEED)
    losses, seconds = _train("see", trainer.see, steps)
    model.save_pretrained(seen)
    return {"images": len(pool.findings), "loss": fmean(losses[-LAST:]), "cpu_seconds": seconds}


def speak(seen: Path, base: Path, *, patients: int, text_patients: int, steps: int) -> Values:
    """The model of `seen` after it has learned to speak as well; writes it to `base` with its processor."""
    encoder, corpus, pool = _material(patients, text_patients)
    model: Any = _load(seen)
    trainer = Pretrainer(model.requires_grad_(True), encoder, pool, corpus, SPEAK_SEED)
    losses, seconds = _train("speak", trainer.speak, steps)
    model.save_pretrained(base)
    encoder.processor.save_pretrained(base)
    rewrites = losses[REWRITE_EVERY - 1 :: REWRITE_EVERY]
    captions = [loss for step, loss in enumerate(losses) if step % REWRITE_EVERY != REWRITE_EVERY - 1]
    return {
        "texts": len(corpus),
        "caption_loss": fmean(captions[-LAST:]),
        "rewrite_loss": fmean(rewrites[-LAST:]),
        "cpu_seconds": seconds,
    }


def captions(base: Path, *, patients: int) -> Values:
    """Share of held-out plain phantoms whose caption is right, letter by letter."""
    answers = list(_answers(base, CAPTION_PROMPT, patients))
    return {
        "images": len(answers),
        "accuracy": fmean(text == caption(example.findings) for example, text in answers),
    }


def reports(base: Path, *, patients: int) -> Values:
    """Scores on the prompt that the base was never asked, for the same phantoms."""
    answers = list(_answers(base, report_prompt(), patients))
    scored = [
        ScoredReport(
            image_id=e.image_id, patient_id=e.patient_id, truth=Report(e.findings), predicted=parse_report(text)
        )
        for e, text in answers
    ]
    metrics = score(scored, [Matches(), Form()], bootstrap=0)
    names = ("soft_match", "exact_match", "unparseable_rate")
    return {"images": len(answers), **{name: metrics.headline(name) for name in names}, "example": answers[0][1]}


def checkpoint(base: Path) -> Values:
    """What lies in the repository."""
    weights = (base / WEIGHTS).read_bytes()
    return {
        "parameters": _load(base).num_parameters(),
        "vocabulary": len(load_processor(str(base)).tokenizer),
        "bytes": len(weights),
        "sha256": sha256(weights).hexdigest(),
    }


@cache
def _material(patients: int, text_patients: int) -> tuple[ReportEncoder, list[tuple[Finding, ...]], Pool]:
    """The processor in its encoder, the findings shown as text, and the images."""
    corpus = [example.findings for example in examples_from_table(all_phantoms(text_patients).table())]
    encoder = ReportEncoder(build_processor(tokenizer_texts(corpus)), CAPTION_PROMPT, MAX_LENGTH)
    source = plain_phantoms(patients, IMAGE_SEED)
    examples = examples_from_table(source.table())
    # All three channels are alike: one is kept.
    squares = (torch.from_numpy(encoder.fit(source.image(example.image_id))) for example in examples)
    images = (encoder.scale.apply(square[None])[0, :1] for square in squares)
    pixels = torch.stack(list(watch("draw", images, len(examples))))
    return encoder, corpus, Pool(pixels, [example.findings for example in examples])


def _train(stage: str, losses: Callable[[int], Iterator[float]], steps: int) -> tuple[list[float], float]:
    """The loss of every step and the CPU seconds of all."""
    started = time.process_time()
    done = list(watch(stage, losses(steps), steps, note=lambda loss: f"loss {loss:.4f}"))
    return done, time.process_time() - started


def _load(folder: Path) -> PreTrainedModel:
    return load_model(str(folder), quantization=None, dtype=torch.float32, device=torch.device("cpu"))


def _answers(base: Path, prompt: str, patients: int) -> Iterator[tuple[Example, str]]:
    """What the base says about every held-out plain phantom."""
    encoder = ReportEncoder(load_processor(str(base)), prompt, MAX_LENGTH)
    source = plain_phantoms(patients, HELD_OUT_SEED)
    examples = examples_from_table(source.table())
    model = _load(base).eval()
    starts = range(0, len(examples), EVAL_BATCH)
    for start in watch(f"'{prompt}'", starts, len(starts)):
        chosen = examples[start : start + EVAL_BATCH]
        samples = tuple(encoder.encode(e, source.image(e.image_id), supervised=False) for e in chosen)
        [micro] = Batch(samples, encoder.pad_token_id).micro_batches(EVAL_BATCH)
        for sample, answer in zip(micro.samples, generate(model, micro, encoder, MAX_LENGTH), strict=True):
            yield sample.example, answer.text
