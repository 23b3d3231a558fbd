"""The memory of a step as the plan's trace sees it, with a CPU in place of the GPU."""

from __future__ import annotations

import time
from collections.abc import Sequence

from experiments.full_size_cpu.witness import GIB
from experiments.results import Values


def predict(overrides: Sequence[str], tokens: int, supervised: int) -> Values:
    """What a step of one sample allocates, in GiB, the weights among it.

    Args:
        overrides: of train.py.
        tokens: of the sample.
        supervised: of these, the tokens with a label.
    """
    from experiments.embedded_default.runs import composed
    from xrayexp.adapters.attach import attach_adapter, base_model
    from xrayexp.memory.device_semantics import CPU
    from xrayexp.memory.optimizer_state import bytes_per_number
    from xrayexp.memory.step import StepShape, as_on, trace_step
    from xrayexp.models.loading import enable_gradient_checkpointing
    from xrayexp.models.skeleton import load_config, skeleton
    from xrayexp.settings import Settings

    started = time.process_time()
    settings = Settings.from_config(composed("train", [*overrides, "paths.output_dir=none"]))
    trainer = settings.trainer
    base = skeleton(
        load_config(settings.model.pretrained, None),
        quantization=settings.quantization_config(),
        dtype=trainer.dtype,
        attention=settings.model.attention,
    )
    with as_on(CPU):
        model = attach_adapter(base, settings.adapter)
    if trainer.gradient_checkpointing:
        enable_gradient_checkpointing(base_model(model))
    each = bytes_per_number(settings.optimizer())
    recording = trace_step(
        model.train(),
        StepShape(1, tokens, supervised, chunk=trainer.loss_chunk),
        autocast=trainer.dtype if trainer.precision.endswith("mixed") else None,
        state_bytes=[round(each * p.numel()) for p in model.parameters() if p.requires_grad],
        device=CPU,
    )
    parts = {name: size / GIB for name, size in recording.at_peak.items() if size}
    return {"peak_gib": recording.peak / GIB, "parts_gib": parts, "cpu_seconds": time.process_time() - started}
