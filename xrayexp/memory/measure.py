"""The memory that a run really took."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import torch

GIB = 2**30


def forget_peak(device: torch.device) -> None:
    """Starts the measurement anew on a GPU; the peak of a process on a CPU cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def allocated_on_cpu(step: Callable[[], object]) -> int:
    """The most bytes that torch allocates on the CPU while `step` runs, beyond what is there before it."""
    from torch.profiler import ProfilerActivity, profile

    gc.collect()  # what is garbage now and collected during the step would count as memory that the step gives back
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    # Checkpointing keeps states of the generator in the host's memory, which on a CPU is the device's.
    states = torch.get_rng_state().nbytes
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if abs(event.nbytes()) != states:
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def peak_memory_gib(device: torch.device) -> float:
    """The most memory, in GiB: allocated by torch since `forget_peak` on a GPU, resident in the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / GIB)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIB if sys.platform == "darwin" else peak * 1024 / GIB  # macOS counts bytes, Linux KiB
