"""The best trial as an experiment file: it composes to the very config of the trial."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from xrayexp.config import config_dir, quoted, register_resolvers
from xrayexp.errors import ConfigError
from xrayexp.search import best
from xrayexp.search.preflight import to_overrides
from xrayexp.search.space import Space, parse_space


def loader(*folders: Path) -> ConfigLoaderImpl:
    """Hydra's, which also looks into these folders."""
    path = create_config_search_path(str(config_dir()))
    for folder in folders:
        path.append("command-line", f"file://{folder}")
    return ConfigLoaderImpl(path)


LOADER = loader()


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """`python train.py OVERRIDES --cfg job`."""
    register_resolvers()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        found: Any = OmegaConf.to_container(compose("train", list(overrides)))
    return found  # type: ignore[no-any-return]


def from_file(overrides: Sequence[str], sweep: Path, *more: str) -> dict[str, Any]:
    """The config that the experiment file of these overrides makes."""
    best.write_experiment(best.experiment_file(sweep), overrides, loader(sweep / best.FOLDER), "a title")
    return composed([f"hydra.searchpath=[{quoted(f'file://{sweep / best.FOLDER}')}]", "experiment=best", *more])


@cache
def space() -> Space:
    section: Any = OmegaConf.load(config_dir() / "search" / "default.yaml").search.space
    return parse_space(OmegaConf.to_container(section), "search.space")  # type: ignore[arg-type]


# Texts that YAML or Hydra could take for something else.
texts = st.sampled_from(
    ["1e-4", "null", "true", "on", "it's", "a: b", "# no", "12", "a, b", "Ü", "", " x ", "[1]", "1_0"]
)
values = st.one_of(
    texts.map(quoted),
    st.integers(-9, 9).map(str),
    st.floats(1e-9, 1e9).map(repr),
    st.sampled_from(["null", "true", "word", "[1, null, 'a b', {c: 1e-3}]", "{a: 1, b: {c: x}}", "[]"]),
)
# Mappings are merged with what stands there; a key below anything else makes no sense.
mappings = st.sampled_from(["{a: 1, b: {c: x}}", "{a: null}", "{}"])
overrides_of_values = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b.c", "b.d.e"]), values | mappings),
        st.tuples(st.just("m"), mappings),
        st.tuples(st.sampled_from(["m.a", "m.n"]), values),
    ).map("=".join),
    max_size=6,
)


@settings(max_examples=25)
@given(overrides_of_values)
def test_values_stand_in_the_file_as_hydra_sets_them(tmp_path_factory: pytest.TempPathFactory, own: list[str]) -> None:
    file = tmp_path_factory.getbasetemp() / "best.yaml"
    hydras = OmegaConf.create()
    added = OverridesParser.create().parse_overrides([f"++{one}" for one in own])
    try:
        ConfigLoaderImpl._apply_overrides_to_config(added, hydras)
    except ConfigCompositionException:  # such as a mapping for a key that holds a list: no sweep gets so far
        reject()
    best.write_experiment(file, [f"++{one}" for one in own], LOADER, "a title")
    assert OmegaConf.load(file) == OmegaConf.merge({"defaults": ["_self_"]}, hydras)
    assert file.read_text(encoding="utf-8").startswith("# @package _global_\n# a title\n")


RUNS = [
    ["optimizer=adamw", "curriculum=easy_to_hard", "data.max_images={train: 64}", "++new.key='1e-4'"],
    ["model=medgemma15", "data=phantom", "trainer=cpu", "logger=[csv,tensorboard]", "+callbacks@more=default"],
]


@pytest.mark.parametrize("run", RUNS, ids=" ".join)
def test_it_composes_to_the_config_of_the_trial(run: list[str], tmp_path: Path) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    overrides = ["search=default", *run, *to_overrides(space().suggest(study.ask()))]
    assert from_file(overrides, tmp_path / "sweep of, 'mine'") == composed(overrides)


def test_the_command_line_wins_over_it(tmp_path: Path) -> None:
    config = from_file(["adapter=dora", "adapter.r=4"], tmp_path, "adapter.r=8")
    assert (config["adapter"]["name"], config["adapter"]["r"]) == ("dora", 8)


def test_an_experiment_of_the_sweep_is_below_its_own(tmp_path: Path) -> None:
    mine = tmp_path / best.FOLDER / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\ndefaults: [override /adapter: dora]\nseed: 5\ntrainer: {max_steps: 9}\n")
    overrides = ["search=default", "experiment=mine", "adapter=delora", "seed=6"]
    config = from_file(overrides, tmp_path)
    there = composed([f"hydra.searchpath=[file://{tmp_path / best.FOLDER}]", *overrides])
    assert config == there
    assert (config["adapter"]["name"], config["seed"], config["trainer"]["max_steps"]) == ("delora", 6, 9)


@pytest.mark.parametrize(
    "override, problem",
    [
        ("~logger.csv", "~logger.csv: a sweep takes no deletions; set the key to null instead"),
        ("~search/pruner", "~search/pruner: a sweep takes no deletions"),
        ("experiment=best", "experiment=best: a sweep writes an experiment of this name"),
        ("experiment=[mine,best]", "experiment=best: a sweep writes an experiment of this name"),
    ],
)
def test_what_cannot_stand_in_a_file_is_refused(override: str, problem: str) -> None:
    parsed = OverridesParser.create().parse_overrides(["adapter=lora,dora", "seed=1", "experiment=null", override])
    with pytest.raises(ConfigError) as caught:
        best.check_writable(parsed)
    [found] = caught.value.problems
    assert found.startswith(problem)


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    assert best.command(tmp_path / "a b") == f"python train.py '--config-dir={tmp_path}/a b/best' experiment=best"
