"""How torch's allocator takes memory of a GPU: a choice that it reads once, before its first allocation."""

from __future__ import annotations

import os
import sys

from xrayexp.checks import Check

VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # the second is the older name
EXPANDABLE = "expandable_segments:True"


def use_expandable_segments(wanted: bool) -> None:
    """Sets what torch reads at its first allocation on a GPU, where the system has it. What the user has set stays."""
    if wanted and sys.platform == "linux" and not any(name in os.environ for name in VARIABLES):
        os.environ[VARIABLES[0]] = EXPANDABLE


def allocator(wanted: bool) -> Check:
    """How memory of a GPU will be taken.

    Args:
        wanted: `memory.expandable_segments`.
    """
    name = "GPU allocator"
    for variable in VARIABLES:
        if (chosen := os.environ.get(variable)) is not None:
            return Check(name, "ok", f"{variable}={chosen}")
    if wanted and sys.platform == "linux":
        return Check(name, "ok", "expandable segments")
    because = "memory.expandable_segments=false" if not wanted else f"torch has no others on {sys.platform}"
    return Check(name, "ok", f"segments of fixed size: {because}")
