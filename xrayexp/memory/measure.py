"""The memory that a run really took."""

from __future__ import annotations

import sys

import torch

GIB = 2**30


def peak_memory_gib(device: torch.device) -> float:
    """The most memory so far: allocated by torch on a GPU, resident in this process on a CPU; in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / GIB)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIB if sys.platform == "darwin" else peak * 1024 / GIB  # macOS counts bytes, Linux KiB
