"""The memory that a run really took."""

from __future__ import annotations

import sys

import torch

GIB = 2**30


def forget_peak(device: torch.device) -> None:
    """Starts the measurement anew on a GPU; the peak of a process on a CPU cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


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
