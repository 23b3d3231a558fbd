"""One adapted 4-bit layer for each method, and what a training step on it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

from xrayexp.adapters.delora import quantized_delora
from xrayexp.adapters.dora import factor_dora, init_magnitude

LORA, PEFT_DORA, DORA, DELORA = "LoRA", "PEFT DoRA", "this DoRA", "this DeLoRA"
METHODS = (LORA, PEFT_DORA, DORA, DELORA)
MIB = 2**20

Step = Callable[[], None]


def adapted(method: str, inside: int, outside: int, rank: int, dtype: torch.dtype, device: torch.device) -> Any:
    """A NF4 layer that computes in `dtype`, with an adapter in float32 that is no longer at its start."""
    from bitsandbytes.nn.modules import Linear4bit, Params4bit
    from peft import DeloraConfig, LoraConfig, get_peft_model

    torch.manual_seed(0)
    layer: Any = Linear4bit(inside, outside, bias=False, compute_dtype=dtype, quant_type="nf4")
    weight = 0.02 * torch.randn(outside, inside, dtype=dtype)
    layer.weight = Params4bit(weight, requires_grad=False, quant_type="nf4")
    layer.support_avx512bf16_for_cpu = False  # as xrayexp.models.loading does, and why
    net: Any = torch.nn.Sequential()
    net.add_module("layer", layer.to(device))
    net.is_loaded_in_4bit = True
    config: Any
    if method == DELORA:
        config = DeloraConfig(r=rank, target_modules=["layer"])
    else:
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["layer"], use_dora=method != LORA)
    with quantized_delora():
        model = get_peft_model(net, config)
    if method == DORA:
        assert factor_dora(model) == 1
        init_magnitude(model)
    for name, parameter in model.named_parameters():
        if "_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def steps(inside: int, outside: int, rank: int, rows: int, dtype: torch.dtype, device: torch.device) -> dict[str, Step]:
    """A forward and a backward pass of each method, with bfloat16 under autocast, as the trainer does it."""

    def step_of(method: str) -> Step:
        model = adapted(method, inside, outside, rank, dtype, device)
        x = torch.randn(1, rows, inside, dtype=dtype, device=device, requires_grad=True)
        grad = torch.randn(1, rows, outside, dtype=dtype, device=device)
        trained = [x, *(p for p in model.parameters() if p.requires_grad)]

        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                y = model(x)
            y.backward(grad.to(y.dtype))  # on a GPU PEFT's DoRA returns float32
            for tensor in trained:
                tensor.grad = None

        return step

    return {method: step_of(method) for method in METHODS}


def interleaved_seconds(steps: Mapping[str, Step], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each step, taken in turns; another one begins each round. The first round is not counted."""
    names = list(steps)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for shift in range(len(names)):
            name = names[(number + shift) % len(names)]
            seconds = _seconds(steps[name], device)
            if number > 0:
                found[name].append(seconds)
    return {name: median(seconds) for name, seconds in found.items()}


def _seconds(step: Step, device: torch.device) -> float:
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step()
        end.record()
        torch.cuda.synchronize(device)
        seconds: float = begin.elapsed_time(end) / 1000
        return seconds
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def transient_mib(step: Step, device: torch.device) -> float:
    """Peak of what a step allocates beyond what is there before it, in MiB. It must have run once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak / MIB
