"""A GPU as this process sees it: what others and the context take of it, and a limit as on a smaller card."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import torch

from xrayexp.memory.measure import GIB


def used_by_others_gib() -> float | None:
    """What is taken of the only visible GPU before this process starts CUDA; None where nvidia-smi cannot say.

    cudaMemGetInfo cannot tell it: asking takes a context of its own.
    """
    if torch.cuda.is_initialized():
        raise RuntimeError("CUDA has been started already")
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lines = done.stdout.split()
    return float(lines[0]) / 1024 if len(lines) == 1 and lines[0].isdecimal() else None


@dataclass(frozen=True)
class Card:
    """The first GPU, once CUDA runs.

    Attributes:
        others_gib: of `used_by_others_gib`.
    """

    others_gib: float | None

    @property
    def name(self) -> str:
        """As CUDA calls it."""
        return torch.cuda.get_device_name(0)

    @property
    def total_gib(self) -> float:
        """Its memory, as torch counts it."""
        return torch.cuda.get_device_properties(0).total_memory / GIB

    def context_gib(self, paged: int = 0) -> float:
        """What the process takes beside torch's allocator: the context, and kernels that were loaded so far.

        Args:
            paged: bytes that bitsandbytes has in memory that CUDA manages, all of them on the card.
        """
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info(0)
        held = torch.cuda.memory_reserved(0) + paged
        return (total - free - held) / GIB - (self.others_gib or 0.0)

    def limit(self, budget_gib: float, context_gib: float) -> float:
        """Lets torch's allocator have what a card of `budget_gib` has beside the context; returns that, in GiB."""
        room = min(budget_gib - context_gib, self.total_gib)
        torch.cuda.set_per_process_memory_fraction(room / self.total_gib, 0)
        return room
