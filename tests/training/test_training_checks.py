"""The device checks; each test says which machine it needs, and most need none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from xrayexp.training.checks import accelerator, bf16, compiler, four_bit, gpu_memory

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
cpu_build = pytest.mark.skipif(torch.version.cuda is not None, reason="needs a CPU-only torch")


@pytest.fixture
def nvidia_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which NVIDIA's driver has put its command."""
    command = tmp_path / ("nvidia-smi.exe" if sys.platform == "win32" else "nvidia-smi")
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_cpu_is_always_there() -> None:
    check = accelerator("cpu")
    assert check.status == "ok"
    assert torch.__version__ in check.detail


@without_gpu
def test_a_gpu_that_is_asked_for_is_missing() -> None:
    check = accelerator("gpu")
    assert check.status == "missing"
    assert "trainer=cpu" in check.fix


@without_gpu
def test_a_gpu_that_would_be_welcome_is_a_warning() -> None:
    assert accelerator("auto").status == "warning"


@without_gpu
@cpu_build
@pytest.mark.usefixtures("nvidia_driver")
def test_a_cpu_only_torch_beside_a_driver_is_called_that() -> None:
    check = accelerator("gpu")
    assert "CPU-only build beside an NVIDIA driver" in check.detail
    assert "https://pytorch.org/get-started/locally/" in check.fix


@without_gpu
def test_what_a_gpu_would_have_is_only_a_warning() -> None:
    assert [check().status for check in (gpu_memory, bf16)] == ["warning", "warning"]


@with_gpu
def test_a_gpu_is_named_with_its_memory() -> None:
    assert torch.cuda.get_device_name() in accelerator("gpu").detail
    assert "GiB free" in gpu_memory().detail
    assert bf16().status in {"ok", "warning"}


def test_4_bit_weights_can_be_packed_and_read() -> None:
    check = four_bit()
    assert check.status == "ok"
    assert "bitsandbytes" in check.detail


def test_a_bitsandbytes_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert four_bit().status == "missing"


@pytest.mark.parametrize("wanted, name, variable", [("cpu", "clang++", "CXX"), ("gpu", "gcc", "CC")])
def test_a_compiler_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, name: str, variable: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(variable, raising=False)
    check = compiler(wanted)
    assert check.status == "missing"
    assert variable in check.fix
    assert "trainer.compile=false" in check.fix
    command = tmp_path / (f"{name}.exe" if sys.platform == "win32" else name)
    command.touch(mode=0o755)
    assert compiler(wanted).detail == str(command)
