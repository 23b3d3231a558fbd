"""The record of a run: whose it is, whatever its folder, and never half written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from peft import get_peft_model_state_dict
from safetensors.torch import load_file

from xrayexp.tracking.provenance import config_hash
from xrayexp.tracking.record import recorded
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.summary import TrainingSummary

Compose = Callable[..., DictConfig]


def resolved(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)


def test_the_hash_of_a_config_is_that_of_what_is_asked_for(compose: Compose) -> None:
    """Two runs in two folders, with different loggers, are the same experiment."""
    one, same, other = compose(), compose("logger=none"), compose("adapter.r=4")
    assert one.paths.output_dir != same.paths.output_dir
    assert config_hash(resolved(one)) == config_hash(resolved(same)) != config_hash(resolved(other))


def test_a_full_disk_leaves_config_and_record_of_a_resumed_run(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, cfg = RunFolder(tmp_path / "run"), resolved(compose())
    with recorded(run, cfg, []):
        pass
    before = {path: path.read_bytes() for path in run.path.iterdir()}

    def full(path: Path, data: str, **options: Any) -> int:
        path.touch()
        path.write_bytes(b"")  # opened for writing, and then there was no room
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"), recorded(run, cfg, [], Path("step-00000001.ckpt")):
        pass
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


def test_the_readme_loads_the_adapter(trained_run: TrainingSummary) -> None:
    """Its lines, as they stand there."""
    readme = RunFolder(trained_run.folder).readme_file.read_text()
    code = dedent(readme.partition("Load without xrayexp:")[2]).replace("RUN", str(trained_run.folder))
    loaded: dict[str, Any] = {}
    exec(code, loaded)
    expected = load_file(trained_run.folder / "checkpoints" / "best" / "adapter_model.safetensors")
    found = get_peft_model_state_dict(loaded["model"])
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert loaded["processor"].tokenizer is not None
