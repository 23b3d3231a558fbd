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


def test_a_repeated_operator_is_known_and_has_memory_of_its_own() -> None:
    """Others run every time: those that return views, or write to what is there."""
    x = torch.empty(64, 32, device="meta", requires_grad=True)

    def compute() -> list[torch.Tensor]:
        y = torch.nn.functional.softmax(x @ x.T, -1)
        values, places = y.max(dim=0)
        return [y, y[:, :3], y.transpose(0, 1), values, places, (y * 2).add_(1), y.to(torch.bfloat16), y.sum()]

    expected = [(t.shape, t.stride(), t.dtype, t.requires_grad) for t in compute()]
    trace = AllocationTrace()
    trace.hold([x], "given")
    with trace:
        first, second = compute(), compute()
    for found in (first, second):
        assert [(t.shape, t.stride(), t.dtype, t.requires_grad) for t in found] == expected
        assert found[1].untyped_storage()._cdata == found[0].untyped_storage()._cdata
    assert not {t.untyped_storage()._cdata for t in first} & {t.untyped_storage()._cdata for t in second}
    sizes = [event.size for event in trace.recording.events if event.size][1:]
    assert sizes[: len(sizes) // 2] == sizes[len(sizes) // 2 :]
    second[0].sum().backward()
    assert x.grad is not None
