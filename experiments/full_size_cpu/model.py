"""A folder with MedGemma's architecture, random weights in NF4 and the embedded model's tokenizer."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments.full_size_cpu.witness import GIB, peak_gib
from experiments.results import Values

if TYPE_CHECKING:
    from transformers import PretrainedConfig, ProcessorMixin

ARCHITECTURE, TOKENIZER = "pkg://xrayexp/models/architectures/gemma3_4b", "pkg://xrayexp/models/tiny"
GLOBAL_LAYER = 5  # the first that attends to everything, not to a window


def build(folder: Path, config: PretrainedConfig) -> Values:
    """Builds the model in `folder`, in place of what is there; a folder is complete or not there.

    Args:
        folder: as `model.pretrained` takes it.
        config: of `architecture`.

    Returns:
        What it took and how large it is; memory in GiB is that of this process.
    """
    from hydra.utils import instantiate

    from experiments.embedded_default.runs import composed
    from experiments.random_model import random_model

    imported, started, used = peak_gib(), time.monotonic(), time.process_time()
    processor = adapted_processor(config)
    quantization = instantiate(composed("train", ["quantization=nf4"]).quantization.config)
    model = random_model(config, quantization=quantization, dtype=torch.bfloat16, device=torch.device("cpu"))
    built, unfinished = peak_gib(), folder.with_suffix(".unfinished")
    for old in (unfinished, folder):
        shutil.rmtree(old, ignore_errors=True)
    model.save_pretrained(unfinished)
    processor.save_pretrained(unfinished)
    unfinished.rename(folder)
    return {
        "parameters": model.num_parameters(),
        "vocabulary": config.text_config.vocab_size,
        "footprint_gib": model.get_memory_footprint() / GIB,
        "disk_gib": sum(file.stat().st_size for file in folder.iterdir()) / GIB,
        "imports_gib": imported,
        "building_gib": built,
        "saving_gib": peak_gib(),
        "cpu_seconds": time.process_time() - used,
        "seconds": time.monotonic() - started,
    }


def architecture(layers: int | None) -> PretrainedConfig:
    """MedGemma's config, with so many layers in the decoder and in the vision tower; None for all."""
    from xrayexp.models.skeleton import load_config

    config: Any = load_config(ARCHITECTURE, None)
    if layers is not None:
        first = GLOBAL_LAYER + 1 - layers  # windows and, at the end, a layer without
        config.text_config.layer_types = config.text_config.layer_types[first : first + layers]
        config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = layers
    return config  # type: ignore[no-any-return]


def adapted_processor(config: Any) -> ProcessorMixin:
    """The embedded tokenizer with the images of `config`, whose ids of special tokens become the tokenizer's.

    MedGemma's own tokenizer cannot be had without a download. Its ids would be other numbers of the same vocabulary.
    """
    from transformers import Gemma3Processor

    from xrayexp.models.loading import load_processor

    tiny: Any = load_processor(TOKENIZER)
    tokenizer, images = tiny.tokenizer, tiny.image_processor
    size = config.vision_config.image_size
    images.size = {"height": size, "width": size}
    config.image_token_id = tokenizer.image_token_id
    config.boi_token_index, config.eoi_token_index = tokenizer.convert_tokens_to_ids(
        ["<start_of_image>", "<end_of_image>"]
    )
    config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    return Gemma3Processor(
        images, tokenizer, chat_template=tiny.chat_template, image_seq_length=config.mm_tokens_per_image
    )
