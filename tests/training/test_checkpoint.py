"""Checkpoints: written whole or not at all, read only when they are whole."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from xrayexp.adapters.attach import save_adapter
from xrayexp.errors import DataError, UserError
from xrayexp.messages import explain
from xrayexp.training.checkpoint import FORMAT, HEADER, AtomicCheckpointIO, checkpoints, latest_checkpoint


def content(step: int = 1, **header: Any) -> dict[str, Any]:
    return {
        "global_step": step,
        "weights": torch.full((1000,), float(step)),
        HEADER: {"format": FORMAT, "version": "0.1.0"} | header,
    }


def save(folder: Path, step: int, **header: Any) -> Path:
    path = folder / f"step-{step:08d}.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(step, **header), path)
    return path


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """No file can grow beyond `free` bytes: the system refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = save(tmp_path / "new", 3)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.full((1000,), 3.0))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    before = path.read_bytes()
    with full_disk(1000), pytest.raises(UserError, match=r"no room .* checkpoint of step 4; those written before"):
        AtomicCheckpointIO().save_checkpoint(content(4), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_whatever_is_written_a_full_disk_is_one_message(tmp_path: Path, load_tiny: Any, encoder: Any) -> None:
    """An adapter: safetensors has errors of its own."""
    model = get_peft_model(load_tiny(), LoraConfig(r=4, target_modules=["q_proj"]))
    folder = tmp_path / "best"
    save_adapter(model, encoder.processor, folder)
    before = (folder / "adapter_model.safetensors").read_bytes()
    with full_disk(5000), pytest.raises(Exception, match=r"No space|too large") as caught:
        save_adapter(model, encoder.processor, folder)
    assert str(explain(caught.value)).startswith("no room on the disk")
    assert (folder / "adapter_model.safetensors").read_bytes() == before
    assert list(tmp_path.iterdir()) == [folder]
    assert explain(RuntimeError("something else")) is None


def test_an_error_while_writing_is_passed_on_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    with pytest.raises((AttributeError, TypeError), match=r"lambda|pickle"):
        AtomicCheckpointIO().save_checkpoint(content(4) | {"broken": lambda: None}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.load(path, weights_only=True)["global_step"] == 3


def test_the_newest_checkpoint_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    paths = [save(tmp_path, step) for step in (900, 1000, 20)]
    assert checkpoints(tmp_path) == [paths[2], paths[0], paths[1]]
    assert latest_checkpoint(tmp_path) == paths[1]


@pytest.mark.parametrize("length", [0, 10, 2000, -1])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path: Path, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    bad.write_bytes(bad.read_bytes()[:length])
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path) == good
    assert caplog.messages == [f"damaged and passed over: {bad.name}; going on from {good.name}"]


def test_no_checkpoint_that_can_be_read_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has not saved any yet"):
        latest_checkpoint(tmp_path)
    save(tmp_path, 1).write_bytes(b"")
    with pytest.raises(DataError, match=r"can be read: step-00000001\.ckpt"):
        latest_checkpoint(tmp_path)


def test_a_checkpoint_of_another_version_is_refused_by_its_version(tmp_path: Path) -> None:
    save(tmp_path, 1, format=FORMAT + 1, version="9.9")
    with pytest.raises(DataError, match=r"written by xrayexp 9\.9.*resume it with that version"):
        latest_checkpoint(tmp_path)
