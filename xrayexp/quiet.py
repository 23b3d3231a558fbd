"""Keeps other libraries' chatter out of a run's output. Each line names one message and why it tells nothing."""

from __future__ import annotations

import logging
import sys
import warnings


def quiet_imports() -> None:
    """The same for what libraries say while they are imported; to be called before."""
    # bitsandbytes looks for an optional faster CPU kernel that this package does not ask for.
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_of_no_kernel)


def _is_of_no_kernel(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in record.getMessage()


def quiet_libraries() -> None:
    """To be called before models are loaded; hides single messages of other libraries, none of this package."""
    # What hardware was found and why training stopped is in our own lines; its handler prints each one twice.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    # Lightning and PEFT call functions that the newest torch and transformers rename.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.* is deprecated")
    # Phantoms are drawn faster than workers start; for files data.num_workers has its own default.
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    if not sys.stderr.isatty():
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
