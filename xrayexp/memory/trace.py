"""Which tensors live at which moment of a computation that is traced on the meta device.

Nothing is computed and nothing is allocated: every operator runs on tensors without content, and the storages of its
results are followed until Python lets go of them, as an allocator would see them.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What an operator allocates inside its kernel and frees before it returns, in bytes each: from its arguments.
Scratch = Callable[..., Iterable[int]]


class Event(NamedTuple):
    """One allocation (`size` above 0) or the release of one (`size` 0)."""

    block: int
    size: int
    phase: str


@dataclass
class Recording:
    """The events of a trace in order, and what lived at its peak.

    Attributes:
        events: allocations and releases.
        peak: most bytes that lived at once.
        at_peak: these bytes by the phase in which they were allocated.
        steps: bytes that lived when each phase last ended.
    """

    events: list[Event] = field(default_factory=list)
    peak: int = 0
    at_peak: Counter[str] = field(default_factory=Counter)
    steps: dict[str, int] = field(default_factory=dict)


class AllocationTrace(TorchDispatchMode):
    """Records every storage that appears while the mode is active.

    Args:
        scratch: by operator, what its kernel allocates for itself.
        values: by operator, the result that stands in for one that needs content, such as reading a number.
    """

    def __init__(self, scratch: Mapping[Any, Scratch] | None = None, values: Mapping[Any, Any] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = Recording()
        self._scratch, self._values = dict(scratch or {}), dict(values or {})
        self._phase, self._blocks = "", 0
        self._live: dict[int, tuple[int, int, str]] = {}  # storage -> block, size, phase
        self._by_phase: Counter[str] = Counter()
        self._total = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Names what is allocated meanwhile."""
        before, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = before
            self.recording.steps[name] = self._total

    def hold(self, tensors: Iterable[torch.Tensor], phase: str) -> None:
        """Counts tensors that are there already; one that is known is moved to `phase`."""
        for tensor in tensors:
            key = tensor.untyped_storage()._cdata
            if key in self._live:
                block, size, old = self._live[key]
                self._by_phase[old] -= size
                self._by_phase[phase] += size
                self._live[key] = (block, size, phase)
            else:
                self._add(tensor, phase)

    def allocate(self, size: int, phase: str) -> None:
        """Counts bytes that no tensor of the trace stands for."""
        self._begin(size, phase)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._values:
            return self._values[func]
        for size in self._scratch.get(func, _nothing)(*args, **(kwargs or {})):
            self._end(self._begin(size, self._phase), size, self._phase)
        out = _RESULTS.of(func, args, kwargs or {})
        for tensor in tree_leaves(out):
            on_device = isinstance(tensor, torch.Tensor) and tensor.device.type == "meta"
            if on_device and tensor.untyped_storage()._cdata not in self._live:
                self._add(tensor, self._phase)
        return out

    def _add(self, tensor: torch.Tensor, phase: str) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        self._live[key] = (self._begin(size, phase), size, phase)
        weakref.finalize(storage, self._release, key).atexit = False

    def _release(self, key: int) -> None:
        block, size, phase = self._live.pop(key)
        self._end(block, size, phase)

    def _begin(self, size: int, phase: str) -> int:
        self._blocks += 1
        if size:  # an empty tensor has no memory
            self.recording.events.append(Event(self._blocks, size, phase))
        self._total += size
        self._by_phase[phase] += size
        if self._total > self.recording.peak:
            self.recording.peak, self.recording.at_peak = self._total, Counter(self._by_phase)
        return self._blocks

    def _end(self, block: int, size: int, phase: str) -> None:
        if size:
            self.recording.events.append(Event(block, 0, phase))
        self._total -= size
        self._by_phase[phase] -= size


class Results:
    """What operators return on the meta device, remembered by what they are given.

    Layers repeat, and most of a trace's time goes into working out the same shapes in Python. Only operators are
    remembered that write to new memory alone: their results are made anew every time.
    """

    def __init__(self) -> None:
        self._pure: dict[Any, bool] = {}
        self._known: dict[Any, list[tuple[Any, ...]]] = {}  # size, strides and type of each result

    def of(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The same as `func(*args, **kwargs)`."""
        if func not in self._pure:
            self._pure[func] = _writes_to_new_memory_alone(func)
        if not self._pure[func]:
            return func(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if not given or any(tensor.device.type != "meta" for tensor in given):
            return func(*args, **kwargs)
        key = (func, _facts(args), _facts(tuple(sorted(kwargs.items()))))
        known = self._known.get(key)
        if known is None:
            out = func(*args, **kwargs)
            if (found := _recipe(out, given)) is not None:
                self._known[key] = found
            return out
        made = [torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in known]
        return made[0] if len(func._schema.returns) == 1 else tuple(made)


_RESULTS = Results()  # for all traces: those of one model differ in a few shapes


def _writes_to_new_memory_alone(func: Any) -> bool:
    """Whether an operator's schema says so, and that it returns tensors."""
    returns = func._schema.returns
    tensors = all(isinstance(one.type, torch.TensorType) and one.alias_info is None for one in returns)
    return bool(returns) and tensors and not func._schema.is_mutable


def _facts(value: Any) -> Any:
    """What decides a result's shape."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.stride()
    if isinstance(value, list | tuple):
        return tuple(map(_facts, value))
    return type(value), value  # 1 and 1.0 promote differently


def _recipe(out: Any, given: list[torch.Tensor]) -> list[tuple[Any, ...]] | None:
    """How to make the results again; None where they are not plain tensors of their own, as large as they look."""
    results = [out] if isinstance(out, torch.Tensor) else list(out)
    storages = {tensor.untyped_storage()._cdata for tensor in given}
    made = []
    for result in results:
        if type(result) is not torch.Tensor or result.device.type != "meta":
            return None
        recipe = (result.shape, result.stride(), result.dtype)
        size = torch.empty_strided(*recipe[:2], dtype=result.dtype, device="meta").untyped_storage().nbytes()
        if result.untyped_storage()._cdata in storages or result.untyped_storage().nbytes() != size:
            return None
        made.append(recipe)
    return made


@contextmanager
def uncollected() -> Iterator[None]:
    """Keeps Python from looking for garbage, which takes long and frees what is in cycles at any moment."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _nothing(*_: Any, **__: Any) -> Iterable[int]:
    return ()
