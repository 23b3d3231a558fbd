"""The memory of an optimiser's state, measured on a small parameter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator

import torch
from torch.optim import Optimizer

_PROBE = 2**16  # numbers; enough for 8-bit optimisers, which keep small tensors in 32 bits


def bytes_per_number(optimizer: Callable[[Iterable[torch.nn.Parameter]], Optimizer]) -> float:
    """Bytes of state for every trained number, those of paged optimisers included.

    Args:
        optimizer: makes the optimiser of the parameters.
    """
    probe = torch.nn.Parameter(torch.zeros(_PROBE))
    probe.grad = torch.zeros_like(probe)
    made = optimizer([probe])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU")  # their states are as large
        made.step()
    return sum(tensor.nbytes for tensor in _tensors(made.state[probe])) / _PROBE


def state_bytes(model: torch.nn.Module, optimizer: Callable[[Iterable[torch.nn.Parameter]], Optimizer]) -> list[int]:
    """Bytes of state of each parameter that is trained, in their order.

    Args:
        model: whose parameters may be on the meta device.
        optimizer: as for `bytes_per_number`.
    """
    each = bytes_per_number(optimizer)
    return [round(each * parameter.numel()) for parameter in model.parameters() if parameter.requires_grad]


def _tensors(state: object) -> Iterator[torch.Tensor]:
    """Those in a state that grow with the parameter."""
    if isinstance(state, torch.Tensor) and state.numel() > _PROBE // 1024:
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)
