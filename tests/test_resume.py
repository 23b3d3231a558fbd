"""The command line of a resumed run, and the config of a run of another version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from xrayexp.config import quoted
from xrayexp.errors import ConfigError, UserError
from xrayexp.resume import config_of, require_same_run, with_earlier_overrides
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.summary import TrainingSummary


@pytest.fixture
def run(trained_run: TrainingSummary, tmp_path: Path) -> RunFolder:
    """The config and the record of a run, to be changed at will."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for name in ("config.yaml", "run.json"):
        (run.path / name).write_text((trained_run.folder / name).read_text())
    record = json.loads(run.record_file.read_text())
    run.record_file.write_text(json.dumps(record | {"overrides": ["adapter=dora", "trainer.max_steps=7"]}))
    return run


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(lambda text: not text.endswith("\\")))
def test_hydra_reads_a_quoted_path_as_it_was(path: str) -> None:
    [override] = OverridesParser.create().parse_overrides([f"hydra.run.dir={quoted(path)}"])
    assert override.value() == path


@pytest.mark.parametrize("name", ["run", "Ben's run (2), lr=3"])
def test_earlier_overrides_come_first_and_the_folder_stays(run: RunFolder, name: str) -> None:
    folder = run.path.rename(run.path.with_name(name))
    arguments = with_earlier_overrides([f"resume={folder}", "trainer.max_steps=9"])
    assert arguments[:3] == ["adapter=dora", "trainer.max_steps=7", "trainer.max_steps=9"]
    read = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(arguments[3:])}
    assert read == {"resume": str(folder), "hydra.run.dir": str(folder), "hydra.output_subdir": None}


@pytest.mark.parametrize("arguments", [[], ["adapter=dora"], ["resume=null"], ["resume="]])
def test_other_command_lines_stay(arguments: list[str]) -> None:
    assert with_earlier_overrides(arguments) == arguments


def test_what_cannot_be_resumed(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave --multirun out"):
        with_earlier_overrides(["-m", f"resume={run.path}"])
    with pytest.raises(UserError, match="is not the folder of a run"):
        with_earlier_overrides([f"resume={tmp_path}"])
    run.record_file.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        with_earlier_overrides([f"resume={run.path}"])


def test_the_config_of_an_older_run_gets_what_it_lacks_and_loses_what_nobody_knows(run: RunFolder) -> None:
    stored = OmegaConf.load(run.config_file)
    del stored.trainer["checkpoint_every"]
    stored.trainer.gone = 1
    stored.old_group = {"x": 1}
    stored.adapter.r = 5
    OmegaConf.save(stored, run.config_file)
    config = config_of(run)
    assert config.trainer.checkpoint_every == 100
    assert "gone" not in config.trainer
    assert "old_group" not in config
    assert config.adapter.r == 5
    assert config.paths.output_dir == str(run.path)


def test_where_things_lie_may_change_and_what_the_run_is_may_not(run: RunFolder) -> None:
    config: Any = OmegaConf.to_container(run.config())
    config["data"]["num_workers"] = 3
    config["trainer"]["max_steps"] = 99
    config["paths"]["output_dir"] = "elsewhere"
    require_same_run(run, config)
    for key, value in (("gradient_clip", 5.0), ("monitor", "val/exact_match")):
        changed: Any = OmegaConf.to_container(run.config())
        changed["trainer"][key] = value
        with pytest.raises(ConfigError, match=rf"trainer\.{key} was .* and would be {value!r}"):
            require_same_run(run, changed)
    config["data"]["prompt"] = "Describe."
    with pytest.raises(ConfigError, match=r"data\.prompt was 'Write a report\.' and would be 'Describe\.'"):
        require_same_run(run, config)
