"""What training needs of the machine: a device, its memory, its number formats, kernels for 4-bit weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from xrayexp.checks import Check

GIB = 2**30
ENOUGH_GPU_MEMORY = 11 * GIB  # what a card sold as 12 GB has at least
LARGEST_NF4_ERROR = 0.16  # half of the widest gap between two of NF4's 16 levels, for values up to 1

_CUDA_BUILD = "install torch's CUDA build: https://pytorch.org/get-started/locally/"


def accelerator(wanted: str) -> Check:
    """Whether the device is there that `trainer.accelerator` asks for: "cpu", "gpu" or "auto"."""
    import torch

    name = "accelerator"
    if wanted == "cpu":
        return Check(name, "ok", f"CPU, {os.cpu_count()} cores, torch {torch.__version__}")
    if torch.cuda.is_available():
        return Check(name, "ok", f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    detail, fix = _why_no_gpu()
    if wanted == "gpu":
        return Check(name, "missing", detail, f"{fix}; or choose trainer=cpu, which is slow")
    return Check(name, "warning", f"{detail}; the CPU will do the work", fix)


def gpu_memory() -> Check:
    """Whether a 4B model at the settings for 12 GB has the memory it is planned for."""
    import torch

    name = "GPU memory"
    if not torch.cuda.is_available():
        return Check(name, "warning", "no GPU")
    free, total = torch.cuda.mem_get_info()
    detail = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if total < ENOUGH_GPU_MEMORY:
        return Check(name, "warning", f"{detail}; the 4B models are set for 12 GB", "trainer.micro_batch_size=1")
    if free < ENOUGH_GPU_MEMORY:
        return Check(name, "warning", f"{detail}; the rest is in use", "`nvidia-smi` names the processes")
    return Check(name, "ok", detail)


def bf16() -> Check:
    """Whether the GPU computes in bfloat16 itself: Gemma 3 overflows in float16."""
    import torch

    name = "bfloat16"
    if not torch.cuda.is_available():
        return Check(name, "warning", "no GPU")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Check(name, "ok", "native")
    return Check(name, "warning", f"not on {torch.cuda.get_device_name()}", "trainer=gpu_t4")


def four_bit() -> Check:
    """Whether bitsandbytes can pack weights to NF4 and read them back on the device at hand."""
    import torch

    name = "4-bit kernels"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        import bitsandbytes
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        values = torch.linspace(-1, 1, 4096, device=device).reshape(64, 64)
        packed, state = quantize_4bit(values, quant_type="nf4", compress_statistics=True)
        error = (dequantize_4bit(packed, state) - values).abs().max().item()
    except (ImportError, OSError, RuntimeError) as failure:
        return Check(name, "missing", str(failure).partition("\n")[0], "`python -m bitsandbytes` says more")
    detail = f"bitsandbytes {bitsandbytes.__version__} on {device}"
    if error > LARGEST_NF4_ERROR:
        return Check(name, "missing", f"{detail}: values come back wrong by {error:.2f}", "pip install -U bitsandbytes")
    return Check(name, "ok", detail)


def compiler(wanted: str) -> Check:
    """Whether torch.compile finds what it builds kernels with: a C++ compiler on a CPU, a C compiler on a GPU.

    Args:
        wanted: `trainer.accelerator`.
    """
    variable, names = ("CC", ("gcc", "clang", "cc")) if wanted == "gpu" else ("CXX", ("g++", "clang++", "c++"))
    found = next(filter(None, map(shutil.which, filter(None, (os.environ.get(variable), *names)))), None)
    if found is not None:
        return Check("compiler", "ok", found)
    return Check(
        "compiler", "missing", f"no {' or '.join(names)}", f"install one, or set {variable}; or trainer.compile=false"
    )


def _why_no_gpu() -> tuple[str, str]:
    """Why torch sees no GPU, and what would change that."""
    import torch

    cpu_only = torch.version.cuda is None and torch.version.hip is None
    if cpu_only and _nvidia_driver():
        return f"torch {torch.__version__} is a CPU-only build beside an NVIDIA driver", _CUDA_BUILD
    if not _nvidia_driver():
        return "no NVIDIA driver on this machine", "use a machine with an NVIDIA GPU"
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return str(error).partition("\n")[0], f"update the NVIDIA driver, or {_CUDA_BUILD}"
    return "torch finds no GPU beside the NVIDIA driver", "compare `nvidia-smi` with CUDA_VISIBLE_DEVICES"


def _nvidia_driver() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
