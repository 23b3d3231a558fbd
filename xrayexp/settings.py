"""The whole config, checked: every room's section, then the rules between rooms, all problems in one message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xrayexp.adapters.config import AdapterSection
from xrayexp.config import parse_section
from xrayexp.data.augmentation import Augmentation, AugmentationSection
from xrayexp.data.config import DataSection
from xrayexp.data.curriculum import CurriculumSection
from xrayexp.errors import ConfigError
from xrayexp.memory.config import MemorySection
from xrayexp.metrics.config import MetricsSection
from xrayexp.models.config import ModelSection, QuantizationSection
from xrayexp.training.config import AUTO, TrainerSection, check_callbacks, check_optimization

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

    from xrayexp.checks import Check
    from xrayexp.data.examples import Source
    from xrayexp.training.module import OptimizerFactory, SchedulerFactory


@dataclass(frozen=True)
class Settings:
    """A run's config with types; `cfg` is what it was read from, with all interpolations resolved."""

    cfg: dict[str, Any]
    seed: int
    test: bool
    resume: str | None
    init_from: str | None
    data: DataSection
    augmentation: AugmentationSection
    curriculum: CurriculumSection
    model: ModelSection
    quantization: QuantizationSection
    adapter: AdapterSection
    trainer: TrainerSection
    metrics: MetricsSection
    memory: MemorySection

    @classmethod
    def from_config(cls, cfg: DictConfig) -> Settings:
        """Reads a composed config.

        Raises:
            ConfigError: with everything that is wrong in it.
        """
        problems: list[str] = []
        parsed = {
            "data": parse_section(cfg, "data", DataSection, problems),
            "augmentation": parse_section(cfg, "augmentation", AugmentationSection, problems),
            "curriculum": parse_section(cfg, "curriculum", CurriculumSection, problems),
            "model": parse_section(cfg, "model", ModelSection, problems),
            "quantization": parse_section(cfg, "quantization", QuantizationSection, problems),
            "adapter": parse_section(cfg, "adapter", AdapterSection, problems),
            "trainer": parse_section(cfg, "trainer", TrainerSection, problems),
            "metrics": parse_section(cfg, "metrics", MetricsSection, problems),
            "memory": parse_section(cfg, "memory", MemorySection, problems),
        }
        problems += _scalar_problems(cfg)
        try:
            resolved: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(problems or [str(error).splitlines()[0]]) from None
        resolved.pop("search", None)  # how this run came about, not what it is
        problems += check_optimization(resolved.get("optimizer"), resolved.get("scheduler"))
        problems += check_callbacks(resolved.get("callbacks"))
        problems += _between_rooms(**parsed, init_from=cfg.get("init_from"))  # type: ignore[arg-type]
        if problems:
            raise ConfigError(problems)
        scalars = {name: resolved[name] for name in ("seed", "test", "resume", "init_from")}
        return cls(cfg=resolved, **scalars, **parsed)  # type: ignore[arg-type]

    def requirements(self, *, logged: bool = True) -> list[Check]:
        """What must be there before the run: weights, data, hardware; where it is `logged`, the loggers' packages."""
        from xrayexp.models.checks import weights
        from xrayexp.tracking.checks import logger_packages
        from xrayexp.training.checks import accelerator, compiler, four_bit

        checks = [accelerator(self.trainer.accelerator), weights(self.model.pretrained)]
        if self.quantization.config is not None:
            checks.append(four_bit())
        if self.trainer.compile and logged:  # evaluations do without
            checks.append(compiler(self.trainer.accelerator))
        if self.data.requires is not None:
            checks.append(instantiate(self.data.requires))
        return [*checks, *(logger_packages(self.cfg.get("logger") or {}) if logged else [])]

    def require_training(self) -> None:
        """Passes when there is something to train; a config without it can still be evaluated.

        Raises:
            ConfigError: there is not.
        """
        if self.data.is_test_set:
            raise ConfigError(
                [f"data={self.data.name} is a test set, which evaluate.py takes; to train on it, give all three of "
                 "data.split.shares a share"]
            )  # fmt: skip
        if not self.adapter.trains_something:
            raise ConfigError(
                [f"adapter={self.adapter.name} trains nothing: choose adapter=lora or another, or add "
                 "adapter.train_projector=true; evaluate.py with checkpoint=none asks the base model"]
            )  # fmt: skip

    def augmenter(self) -> Augmentation | None:
        """The random changes of training images, or None."""
        transforms = [instantiate(transform) for transform in self.augmentation.transforms]
        return Augmentation(transforms, self.seed) if transforms else None

    def synthetic(self) -> Source | None:
        """The source of generated training images, or None."""
        return None if self.data.synthetic is None else instantiate(self.data.synthetic.source, _convert_="all")

    def callbacks(self) -> list[Callback]:
        """Lightning callbacks of the config; a group that is switched off (null) has none."""
        return [
            instantiate(callback) for callback in (self.cfg.get("callbacks") or {}).values() if callback is not None
        ]

    def loggers(self) -> list[Logger]:
        """Lightning loggers of the config; a group that is switched off (null) has none."""
        given = self.cfg.get("logger") or {}
        return [instantiate(logger) for logger in given.values() if logger is not None]

    def quantization_config(self) -> Any:
        """A transformers quantisation config, or None."""
        return None if self.quantization.config is None else instantiate(self.quantization.config)

    def optimizer(self) -> OptimizerFactory:
        """The optimiser, still without parameters."""
        factory: OptimizerFactory = instantiate(self.cfg["optimizer"], _convert_="all")
        return factory

    def scheduler(self) -> SchedulerFactory:
        """The schedule, still without optimiser and length."""
        factory: SchedulerFactory = instantiate(self.cfg["scheduler"], _convert_="all")
        return factory


def _between_rooms(
    model: ModelSection | None,
    quantization: QuantizationSection | None,
    adapter: AdapterSection | None,
    trainer: TrainerSection | None,
    **others: object,
) -> list[str]:
    """Rules that concern more than one section, of those sections that could be read."""
    found = []
    memory = others.get("memory")
    if trainer and trainer.auto_batch and isinstance(memory, MemorySection) and memory.budget_gib is None:
        found.append("trainer.auto_batch=true needs memory=budget_12gb, or another memory.budget_gib")
    if adapter and quantization and quantization.config is not None and not adapter.quantized_base:
        found.append(adapter.needs_unquantized)
    if quantization and trainer and quantization.name == "int8" and trainer.accelerator == "gpu":
        found.append(
            "quantization=int8 computes in float16 on a GPU, which Gemma 3's activations overflow: use nf4 or none"
        )
    if (
        trainer
        and trainer.checkpoint_layers == AUTO
        and isinstance(memory, MemorySection)
        and memory.budget_gib is None
    ):
        found.append("trainer.checkpoint_layers=auto needs memory=budget_12gb, or another memory.budget_gib")
    augmentation = others.get("augmentation")
    if trainer and trainer.feature_cache == "disk":
        if isinstance(augmentation, AugmentationSection) and augmentation.transforms:
            found.append("trainer.feature_cache=disk needs images that stay the same: use augmentation=none, or step")
        if adapter and (adapter.train_projector or "vision" in adapter.target):
            found.append(
                "trainer.feature_cache=disk needs a frozen vision tower and projector: use adapter.target=language"
            )
    if adapter and adapter.ensure_weight_tying and not adapter.modules_to_save:
        found.append("adapter.ensure_weight_tying=true needs adapter.modules_to_save=[lm_head,embed_tokens]")
    if adapter and adapter.phases and others.get("init_from") is not None:
        found.append(f"init_from: adapter={adapter.name} cannot start from an adapter, whose ranks are pruned already")
    if model and trainer and trainer.accelerator == "cpu" and model.attention == "flash_attention_2":
        found.append("model.attention=flash_attention_2 needs trainer.accelerator=gpu; use model.attention=sdpa")
    return found


SECTIONS = ("data", "augmentation", "curriculum", "model", "quantization", "adapter", "trainer", "metrics", "memory")
OTHER_KEYS = (
    "optimizer", "scheduler", "callbacks", "logger", "paths", "seed", "test", "resume", "init_from", "debug", "search"
)  # fmt: skip


def _scalar_problems(cfg: DictConfig) -> list[str]:
    found = [f"{key}: unknown key" for key in map(str, cfg) if key not in (*SECTIONS, *OTHER_KEYS)]
    if not isinstance(cfg.seed, int) or isinstance(cfg.seed, bool) or not 0 <= cfg.seed < 2**32:
        found.append(f"seed must be a whole number from 0 to {2**32 - 1}, not {cfg.seed}")
    found += [
        f"{key} must be a folder or null, not {cfg[key]}"
        for key in ("resume", "init_from")
        if not isinstance(cfg[key], str | None)
    ]
    found += [
        f"{key} must be true or false, not {cfg[key]}" for key in ("test", "debug") if not isinstance(cfg[key], bool)
    ]
    return found
