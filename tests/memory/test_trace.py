"""What is recorded of a computation on the meta device."""

from __future__ import annotations

import torch

from xrayexp.memory.trace import AllocationTrace

KIB = 1024


def meta(bytes_: int) -> torch.Tensor:
    return torch.empty(bytes_ // 4, device="meta")


def test_peak_and_its_parts() -> None:
    trace = AllocationTrace()
    weight = meta(8 * KIB)
    trace.hold([weight], "weights")
    with trace:
        with trace.phase("one"):
            kept = weight * 2
            temporary = kept + 1
            del temporary
        with trace.phase("two"):
            view = kept.view(2, -1)
            result = view.sum(1)
        del kept
        assert trace.recording.steps["two"] == 16 * KIB + 8
        del view, result
    assert trace.recording.peak == 24 * KIB
    assert dict(trace.recording.at_peak) == {"weights": 8 * KIB, "one": 16 * KIB}
    sizes = [event.size for event in trace.recording.events]
    assert sizes == [8 * KIB, 8 * KIB, 8 * KIB, 0, 8, 0, 0]


def test_scratch_lives_within_its_operator() -> None:
    trace = AllocationTrace(scratch={torch.ops.aten.mul.Tensor: lambda a, b: (3 * a.nbytes,)})
    with trace:
        x = meta(KIB)
        y = x * x
    assert trace.recording.peak == 4 * KIB
    assert y.shape == x.shape


def test_a_value_stands_in_for_content() -> None:
    trace = AllocationTrace(values={torch.ops.aten._local_scalar_dense.default: 0})
    with trace:
        assert not bool(meta(KIB).sum() > 0)


def test_held_twice_counts_once_and_moves() -> None:
    trace = AllocationTrace()
    tensor = meta(KIB)
    trace.hold([tensor, tensor.view(2, -1)], "a")
    trace.hold([tensor], "b")
    trace.allocate(512, "c")
    assert trace.recording.peak == KIB + 512
    assert sum(trace.recording.at_peak.values()) == KIB + 512
    assert trace.recording.at_peak["b"] == KIB
    assert trace.recording.at_peak["a"] == 0
