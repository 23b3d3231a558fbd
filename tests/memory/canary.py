"""What the canaries share: the facts that they state, and what watches torch while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BitsAndBytesConfig, PreTrainedModel

from xrayexp.adapters.attach import attach_adapter
from xrayexp.adapters.config import AdapterSection
from xrayexp.planning import TRACED

TINY = "pkg://xrayexp/models/tiny"
HEADERS = Path(torch.__file__).parent / "include"
BF16 = torch.bfloat16


@contextmanager
def fact(statement: str, user: str) -> Iterator[None]:
    """Around a test: whatever goes wrong in it means that the statement is no longer true."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        releases = ", ".join(f"{name} {version(name)}" for name in TRACED)
        message = f"no longer true with {releases}: {statement}. xrayexp/{user} relies on it."
        pytest.fail(f"{message}\n{type(error).__name__}: {error}")


class Operators(TorchDispatchMode):
    """Which operators run, with what."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    @property
    def names(self) -> list[str]:
        return [func.name() for func, _, _ in self.calls]


class Functions(TorchFunctionMode):
    """Which functions of torch are called, operators that autograd calls by themselves left out."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[Any] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not isinstance(func, torch._ops.OpOverload):
            self.called.add(func)
        return func(*args, **(kwargs or {}))


def nf4() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)


def adapted(base: PreTrainedModel, target: str = "language") -> PeftModel:
    peft = {"_target_": "peft.LoraConfig", "r": 4, "use_dora": True}
    section = AdapterSection(name="dora", lr_scale=1.0, target=target, quantized_base=True, peft=peft)
    return attach_adapter(base, section).train()
