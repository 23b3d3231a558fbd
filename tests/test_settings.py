"""Values that make no sense are refused before anything loads, all of them in one message."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from omegaconf import DictConfig

from xrayexp.errors import ConfigError
from xrayexp.settings import Settings

Compose = Callable[..., DictConfig]


def refused(compose: Compose, *overrides: str) -> tuple[str, ...]:
    """The problems that are found with a command line."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_config(compose(*overrides))
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


OUT_OF_RANGE = [
    ("seed=-1", "seed"),
    ("seed=5000000000", "seed"),  # torch and numpy take 32 bits
    ("trainer.max_steps=0", "trainer.max_steps"),
    ("trainer.max_epochs=0", "trainer.max_epochs"),
    ("trainer.effective_batch_size=0", "trainer.effective_batch_size"),
    ("trainer.micro_batch_size=-1", "trainer.micro_batch_size"),
    ("trainer.eval_batch_size=0", "trainer.eval_batch_size"),
    ("trainer.validate_every=0", "trainer.validate_every"),
    ("trainer.log_every=0", "trainer.log_every"),
    ("trainer.num_threads=0", "trainer.num_threads"),
    ("trainer.gradient_clip=0", "trainer.gradient_clip"),
    ("trainer.gradient_clip=nan", "trainer.gradient_clip"),
    ("trainer.accelerator=tpu", "trainer.accelerator"),
    ("trainer.precision=16-mixed", "trainer.precision"),
    ("trainer.monitor=val/loss", "trainer.monitor"),
    ("adapter.r=0", "adapter.r"),
    ("adapter.r=-8", "adapter.r"),
    ("adapter.alpha=-1", "adapter.alpha"),
    ("adapter.alpha=nan", "adapter.alpha"),
    ("adapter.dropout=1", "adapter.dropout"),
    ("adapter.dropout=-0.1", "adapter.dropout"),
    ("adapter.lr_scale=0", "adapter.lr_scale"),
    ("+adapter.phases={tfinal: 2}", "adapter.phases.tfinal"),
    ("optimizer.lr=0", "optimizer.lr"),
    ("optimizer.lr=-1e-3", "optimizer.lr"),
    ("optimizer.lr=nan", "optimizer"),
    ("optimizer.weight_decay=-1", "optimizer"),
    ("optimizer.betas=[0.9]", "optimizer"),
    ("optimizer.betas=[0.9,1.5]", "optimizer"),
    ("scheduler.warmup=1", "scheduler.warmup"),
    ("scheduler.warmup=-0.5", "scheduler.warmup"),
    ("model.max_length=0", "model.max_length"),
    ("model.max_new_tokens=0", "model.max_new_tokens"),
    ("model.attention=flash", "model.attention"),
    ("trainer.checkpoint_layers=-1", "trainer.checkpoint_layers"),
    ("trainer.feature_cache=always", "trainer.feature_cache"),
    ("data.num_workers=-1", "data.num_workers"),
    ("data.max_images.train=0", "data.max_images.train"),
    ("+data.max_images.dev=5", "data.max_images"),
    ("data.split.shares.test=0.5", "data.split.shares"),
    ("data.split.shares={train: 1.0}", "data.split.shares"),
    ("metrics.bootstrap=-1", "metrics.bootstrap"),
    ("metrics.confidence=1", "metrics.confidence"),
    ("metrics.seed=-1", "metrics.seed"),  # numpy would refuse it, after training
]

WRONG_TYPES = [
    ("seed=one", "seed"),
    ("seed=1.5", "seed"),
    ("seed=true", "seed"),
    ("test=maybe", "test"),
    ("debug=1", "debug"),
    ("trainer.max_steps=many", "trainer.max_steps"),
    ("trainer.max_steps=1.5", "trainer.max_steps"),
    ("trainer.max_steps=true", "trainer.max_steps"),
    ("trainer.log_every=null", "trainer.log_every"),
    ("trainer.gradient_checkpointing=maybe", "trainer.gradient_checkpointing"),
    ("trainer.checkpoint_layers=1.5", "trainer.checkpoint_layers"),
    ("trainer.compile=fast", "trainer.compile"),
    ("memory.expandable_segments=maybe", "memory.expandable_segments"),
    ("adapter.r=8.5", "adapter.r"),
    ("adapter.r=null", "adapter.r"),
    ("adapter.alpha=null", "adapter.alpha"),
    ("adapter.modules_to_save=lm_head", "adapter.modules_to_save"),
    ("adapter.target=null", "adapter.target"),
    ("optimizer.lr=fast", "optimizer.lr"),
    ("optimizer.lr=true", "optimizer.lr"),
    ("scheduler.warmup=long", "scheduler"),
    ("model.pretrained=null", "model.pretrained"),
    ("data.prompt=null", "data.prompt"),
    ("data.split.seed=x", "data.split"),
    ("metrics.bootstrap=1.5", "metrics.bootstrap"),
]

UNKNOWN = [
    ("+trainer.max_step=5", "trainer.max_step"),
    ("+adapter.rank=5", "adapter.rank"),
    ("+data.images=5", "data.images"),
    ("+model.weights=x", "model.weights"),
    ("+quantization.bits=4", "quantization.bits"),
    ("+metrics.clinical=true", "metrics.clinical"),
    ("+sede=1", "sede"),
    ("+optimizer.momentum=0.9", "optimizer"),
    ("+scheduler.cycles=2", "scheduler"),
    ("~trainer.log_every", "trainer.log_every"),
]

IMPOSSIBLE = [
    (["adapter.quantized_base=false"], "quantization=none"),
    (["adapter.quantized_base=false", "quantization=int8"], "quantization=none"),
    (["adapter=c3a"], "adapter=miss"),
    (["adapter=adalora", "init_from=x"], "init_from"),
    (["adapter.ensure_weight_tying=true"], "modules_to_save"),
    (["trainer.checkpoint_layers=1"], "gradient_checkpointing=true"),
    (["trainer.gradient_checkpointing=true", "trainer.checkpoint_layers=auto"], "memory.budget_gib"),
    (["trainer.feature_cache=disk", "adapter.target=language", "augmentation=cxr"], "augmentation=none"),
    (["trainer.feature_cache=disk"], "adapter.target=language"),
    (["model.attention=flash_attention_2"], "flash_attention_2"),
    (["trainer.max_steps=null", "trainer.max_epochs=null"], "max_epochs"),
]


def place(override: str) -> str:
    """What stands for one problem at most: a key, or the whole optimiser, of which the first problem is told."""
    key = override.lstrip("+~").partition("=")[0]
    if key.startswith(("optimizer.", "scheduler.")):
        return "optimization"
    return key.rpartition(".")[0] if key.startswith(("data.split.", "data.max_images.")) else key


def rounds(table: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Overrides that can be tried together, since composing takes a while: one for every key."""
    left, tried = [override for override, _ in table], []
    while left:
        tried.append(tuple({place(override): override for override in reversed(left)}.values()))
        left = [override for override in left if override not in tried[-1]]
    return tried


ROUNDS = [round_ for table in (OUT_OF_RANGE, WRONG_TYPES, UNKNOWN) for round_ in rounds(table)]


@pytest.fixture(scope="module")
def problems(compose: Compose) -> Callable[[str], tuple[str, ...]]:
    """`problems(override)`: what is found in the round that tries it."""
    found = cache(lambda round_: refused(compose, *round_))
    return lambda override: found(next(round_ for round_ in ROUNDS if override in round_))


@pytest.mark.parametrize("override, named", OUT_OF_RANGE + WRONG_TYPES + UNKNOWN)
def test_a_value_that_makes_no_sense(problems: Callable[[str], tuple[str, ...]], override: str, named: str) -> None:
    [problem] = [problem for problem in problems(override) if problem.startswith(named)]
    assert "\n" not in problem


def test_a_whole_section_is_missing(compose: Compose) -> None:
    [problem] = refused(compose, "~trainer")
    assert problem.startswith("trainer")


@pytest.mark.parametrize("overrides, named", IMPOSSIBLE)
def test_choices_that_exclude_each_other(compose: Compose, overrides: list[str], named: str) -> None:
    [problem] = refused(compose, *overrides)
    assert named in problem


def test_everything_that_is_wrong_is_in_one_message(compose: Compose) -> None:
    overrides = [
        "seed=-1", "trainer.max_steps=0", "trainer.log_every=many", "adapter.r=0", "data.num_workers=-1",
        "model.max_length=0", "metrics.bootstrap=-1", "optimizer.lr=-1", "+trainer.foo=1",
    ]  # fmt: skip
    problems = refused(compose, *overrides)
    for named in ("seed", "trainer.log_every", "trainer.foo", "adapter.r", "data.num_workers", "model.max_length",
                  "metrics.bootstrap", "optimizer.lr"):  # fmt: skip
        assert sum(problem.startswith(named) for problem in problems) == 1, named


def test_a_wrong_value_does_not_hide_an_impossible_combination(compose: Compose) -> None:
    problems = refused(compose, "adapter.quantized_base=false", "adapter.r=0", "optimizer.lr=-1")
    assert len(problems) == 3


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=4294967295"], ["trainer.gradient_clip=null"], ["trainer.num_threads=null"], ["adapter.dropout=0"],
        ["trainer.max_steps=null", "trainer.max_epochs=1"], ["adapter.quantized_base=false", "quantization=none"],
        ["data.max_images.train=null"], ["metrics.bootstrap=0"], ["scheduler.warmup=0"], ["optimizer.lr=1"],
        ["adapter.modules_to_save=[lm_head,embed_tokens]", "adapter.ensure_weight_tying=true"],
        ["trainer.gradient_checkpointing=true", "trainer.checkpoint_layers=0"],
        ["trainer.gradient_checkpointing=true", "trainer.checkpoint_layers=auto", "memory=budget_12gb"],
        ["trainer.feature_cache=disk", "adapter.target=language"],
        ["trainer.validate_every=null"], ["~callbacks.early_stopping"], ["~logger.csv"],
    ],
)  # fmt: skip
def test_the_edges_are_allowed(compose: Compose, overrides: list[str]) -> None:
    cfg = compose(*overrides)
    assert Settings.from_config(cfg).seed == cfg.seed


def test_what_is_needed_is_asked_for(compose: Compose) -> None:
    small, big = (Settings.from_config(compose(*o)).requirements() for o in ([], ["model=medgemma15"]))
    assert [check.status for check in small] == ["ok", "ok", "ok"]
    names = {check.name: check for check in big}
    assert {"accelerator", "model weights", "4-bit kernels", "PadChest folder"} == set(names)
    assert names["model weights"].status != "ok" or "medgemma" in names["model weights"].detail


def test_training_ends_at_whichever_limit_comes_first(compose: Compose) -> None:
    for steps, epochs, expected in ((10, 2, 10), (30, 2, 14), ("null", 3, 21), (9, "null", 9)):
        cfg = compose(f"trainer.max_steps={steps}", f"trainer.max_epochs={epochs}")
        assert Settings.from_config(cfg).trainer.total_steps(batches_per_epoch=7) == expected
