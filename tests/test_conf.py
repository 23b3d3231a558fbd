"""Every config file: it composes, its targets exist and take its arguments, and the command line wins."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from xrayexp.baselines.config import BaselineSection
from xrayexp.config import config_dir, parse_section
from xrayexp.data.prompt import PromptSection
from xrayexp.search.config import SearchSection
from xrayexp.search.space import parse_space
from xrayexp.settings import Settings

Compose = Callable[..., DictConfig]

CONF = config_dir()
OPTIONS = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem) for path in CONF.rglob("*.yaml") if path.parent != CONF
)
ROOTS = sorted(path.stem for path in CONF.glob("*.yaml"))
BIG = ["medgemma15", "medgemma10", "gemma3_4b"]
# What a choice needs beside it, where it does not work alone.
COMPANIONS = {
    ("adapter", "c3a"): ["quantization=none"],
    ("curriculum/difficulty", "model_loss"): ["curriculum.difficulty.losses=losses.csv"],
    **{(group, option): ["search=default"] for group, option in OPTIONS if group.startswith("search/")},
}
WITHOUT_TARGETS = {("hydra/job_logging", "file")}  # for Python's own logging
OF_EVALUATION: dict[str, type[Any]] = {
    "prompt": PromptSection,
    "baseline": BaselineSection,
}  # groups that only evaluate.py has
OF_HYDRA = "hydra/"
HYDRAS_OWN = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


@pytest.fixture(scope="module")
def chosen(compose: Compose) -> Compose:
    """`chosen(group, option)`: the config with that choice, composed once."""

    @cache
    def composed(group: str, option: str) -> DictConfig:
        if group.startswith(OF_HYDRA):
            return hydras_own(group, option)
        config = "evaluate" if group in OF_EVALUATION else "train"
        return compose(f"{group}={option}", *COMPANIONS.get((group, option), []), config=config)

    return composed


def hydras_own(group: str, option: str) -> DictConfig:
    """The section of a group below `hydra/`, which a job's config has not."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        whole = hydra_compose("train", [f"{group}={option}"], return_hydra_config=True)
    return OmegaConf.masked_copy(whole.hydra, group.removeprefix(OF_HYDRA))


def targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a config that is to be instantiated, with its place."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}".lstrip("."))


def defaults(option: str) -> dict[str, Any]:
    """`model.defaults` as the file writes it."""
    loaded = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{option}.yaml"))
    assert isinstance(loaded, dict)
    found: dict[str, Any] = loaded["model"].get("defaults", {})
    return found


def test_there_is_something_to_test() -> None:
    assert {"train", "evaluate"} <= set(ROOTS)
    assert {"adapter", "data", "model", "optimizer", "quantization", "scheduler", "trainer"} <= {g for g, _ in OPTIONS}


@pytest.mark.parametrize("group, option", OPTIONS)
def test_it_composes_into_settings(chosen: Compose, group: str, option: str) -> None:
    """No value is missing, no interpolation fails, and a room reads every key: unknown ones are refused."""
    cfg = chosen(group, option)
    if group in OF_EVALUATION:
        problems: list[str] = []
        assert parse_section(cfg, group, OF_EVALUATION[group], problems) is not None
        assert problems == []
        return
    if group.startswith(OF_HYDRA):
        assert cfg[group.removeprefix(OF_HYDRA)]
        return
    section: Any = Settings.from_config(cfg).cfg
    if group.startswith("search"):
        problems = []
        search = parse_section(cfg, "search", SearchSection, problems)
        assert problems == []
        assert search is not None
        assert parse_space(search.space, "search.space").dimensions
        return
    for name in group.split("/"):
        section = section[name]
    assert section


@pytest.mark.parametrize("name", [name for name in ROOTS if name != "train"])
def test_the_other_commands_compose(compose: Compose, name: str) -> None:
    assert OmegaConf.to_container(compose(config=name), resolve=True)


@pytest.mark.parametrize("group, option", OPTIONS)
def test_every_target_exists_and_takes_its_arguments(chosen: Compose, group: str, option: str) -> None:
    cfg = OmegaConf.to_container(chosen(group, option), resolve=not group.startswith(OF_HYDRA))
    found = list(targets(cfg))
    assert found or (group, option) in WITHOUT_TARGETS
    for path, node in found:
        target = get_object(node["_target_"])
        signature = inspect.signature(target)
        arguments = {name: value for name, value in node.items() if name not in HYDRAS_OWN}
        # Also where a target takes any keyword: a typo would be swallowed.
        assert arguments.keys() <= signature.parameters.keys(), path
        bind = signature.bind_partial if node.get("_partial_") else signature.bind
        bind(**arguments)


@pytest.mark.parametrize("model", BIG)
def test_a_4b_model_chooses_the_settings_for_12_gb(compose: Compose, model: str) -> None:
    settings = Settings.from_config(compose(f"model={model}"))
    cfg, trainer, adapter = settings.cfg, settings.trainer, settings.adapter
    assert cfg["data"]["name"] == "padchest"
    assert settings.quantization.name == "nf4"
    assert (trainer.accelerator, trainer.precision) == ("gpu", "bf16-mixed")
    assert trainer.gradient_checkpointing
    assert trainer.effective_batch_size == 32
    assert trainer.micro_batch_size < 8
    assert (trainer.max_epochs, trainer.max_steps) == (5, None)
    assert cfg["optimizer"]["_target_"] == "bitsandbytes.optim.PagedAdamW8bit"
    assert cfg["optimizer"]["lr"] == pytest.approx(1e-4)
    assert cfg["scheduler"]["_target_"].endswith("cosine")
    assert cfg["scheduler"]["warmup"] == 0.05
    assert cfg["callbacks"]["early_stopping"]["patience"] == 5
    assert (adapter.r, adapter.alpha, adapter.target) == (32, 64, "language")
    assert adapter.modules_to_save is None
    assert (adapter.peft["r"], adapter.peft["lora_alpha"]) == (32, 64)


def test_the_4b_models_are_the_published_ones(compose: Compose) -> None:
    ids = [compose(f"model={model}").model.pretrained for model in BIG]
    assert ids == ["google/medgemma-1.5-4b-it", "google/medgemma-4b-it", "google/gemma-3-4b-it"]


def test_the_embedded_default(compose: Compose) -> None:
    settings = Settings.from_config(compose())
    assert (settings.model.name, settings.data.name, settings.adapter.name) == ("tiny", "phantom", "lora")
    assert settings.adapter.target == "language+vision"
    assert settings.model.pretrained.startswith("pkg://xrayexp/")
    assert settings.quantization.name == "nf4"
    assert settings.data.max_images["test"] == 500
    assert settings.test


COMMANDS: list[tuple[list[str], dict[str, Any]]] = [
    (
        ["model=medgemma15", "data=phantom", "trainer=cpu"],
        {"data.name": "phantom", "trainer.accelerator": "cpu", "trainer.precision": "32-true",
         "model.name": "medgemma15", "trainer.micro_batch_size": 2},
    ),
    (["data=phantom", "model=medgemma15"], {"data.name": "phantom", "trainer.accelerator": "gpu"}),
    (["model=medgemma15", "adapter.r=8"], {"adapter.r": 8, "adapter.peft.r": 8, "adapter.alpha": 64}),
    (
        ["model=medgemma15", "adapter=dora"],
        {"adapter.name": "dora", "adapter.r": 32, "adapter.peft.use_dora": True, "adapter.peft.lora_dropout": 0.0},
    ),
    (
        ["model=medgemma15", "optimizer=adamw", "optimizer.lr=1e-5"],
        {"optimizer._target_": "torch.optim.AdamW", "optimizer.lr": 1e-5},
    ),
    (["model=medgemma15", "trainer=gpu_t4"], {"trainer.precision": "32-true", "trainer.micro_batch_size": 1}),
    (["model=medgemma15", "trainer.max_steps=1"], {"trainer.max_steps": 1}),
    (["trainer=debug", "trainer.max_steps=3"], {"trainer.max_steps": 3, "trainer.effective_batch_size": 4}),
    (
        ["adapter=dora", "adapter.r=16", "trainer.max_steps=500"],
        {"adapter.r": 16, "trainer.max_steps": 500, "adapter.peft.use_dora": True},
    ),
    (["model.defaults.lr=1e-3", "adapter.lr_scale=2"], {"optimizer.lr": 2e-3}),
    (["model.defaults.lr=1e-3", "adapter=delora"], {"optimizer.lr": 1e-2}),
]  # fmt: skip


@pytest.mark.parametrize("overrides, expected", COMMANDS, ids=[" ".join(o) for o, _ in COMMANDS])
def test_the_command_line_wins(compose: Compose, overrides: list[str], expected: dict[str, Any]) -> None:
    cfg = compose(*overrides)
    assert {key: OmegaConf.select(cfg, key, throw_on_missing=True) for key in expected} == pytest.approx(expected)


def test_every_default_of_a_model_is_used_and_every_used_one_is_there() -> None:
    used = set()
    for path in CONF.rglob("*.yaml"):
        used |= set(re.findall(r"model\.defaults\.(\w+)\}", path.read_text(encoding="utf-8")))
    assert used
    for option in (path.stem for path in (CONF / "model").glob("*.yaml")):
        if given := defaults(option):
            assert set(given) == used, option


def test_the_folder_is_the_one_beside_the_package() -> None:
    assert Path(__file__).parents[1] / "conf" == CONF
