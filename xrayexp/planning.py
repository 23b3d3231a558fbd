"""The memory of a run, predicted from its settings: the skeleton of its model, its adapter, its step."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayexp.errors import UserError
from xrayexp.memory.plan import Constants, Forecast, Peak, Verdict
from xrayexp.memory.segments import segments_grow
from xrayexp.replacing import replaced
from xrayexp.training.config import AUTO

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from xrayexp.memory.device_semantics import Device
    from xrayexp.memory.step import StepShape
    from xrayexp.memory.trace import Recording
    from xrayexp.settings import Settings
    from xrayexp.training.config import TrainerSection

log = logging.getLogger(__name__)

TRACED = ("torch", "transformers", "peft", "bitsandbytes")  # whose code decides what a step allocates
MANY_STEPS = 1000  # for methods with phases: those of the beginning count
FEWEST_TOKENS = 256  # the shortest reports that a suggestion may cut to, beside the image


@dataclass(frozen=True)
class Change:
    """Other settings, and what they would need."""

    overrides: tuple[str, ...]
    forecast: Forecast


@dataclass(frozen=True)
class Plan:
    """The forecast of a run.

    Attributes:
        forecast: what it needs.
        budget_gib: the memory of the card.
        nearest: the nearest settings that fit, where these do not.
    """

    forecast: Forecast
    budget_gib: float
    nearest: tuple[Change, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether it fits."""
        return self.forecast.verdict(self.budget_gib)

    def to_json(self) -> dict[str, Any]:
        """For memory.json in the run folder."""
        return {"budget_gib": self.budget_gib, "verdict": self.verdict, **self.forecast.to_json()}

    @property
    def sentence(self) -> str:
        """The forecast in one line."""
        needed, calibrated = self.forecast.card_gib, self.forecast.calibrated_on
        source = f"calibrated on {', '.join(calibrated)}" if calibrated else "estimated, not calibrated on a GPU"
        return f"memory: about {needed:.1f} of {self.budget_gib:g} GiB ({source}): {self.verdict}"

    @property
    def advice(self) -> str:
        """What would fit."""
        if not self.nearest:
            return "No smaller batch, rank or length alone makes it fit."
        options = [f"{' '.join(c.overrides)} ({c.forecast.card_gib:.1f} GiB)" for c in self.nearest]
        return f"What would fit: {', or '.join(options)}."


class NoForecastError(UserError):
    """The code of a method needs the numbers in the weights, which a trace has not."""


def checked(settings: Settings) -> tuple[Settings, Plan | None]:
    """Settings that are predicted to fit, with `trainer.auto_batch` carried out; and their plan.

    Nothing is predicted for a CPU, or without `memory.budget_gib`.

    Raises:
        UserError: they do not fit; says what would.
    """
    budget = settings.memory.budget_gib
    if budget is None or settings.trainer.accelerator != "gpu":
        return settings, None
    planner = Planner(settings)
    try:
        planner.forecast(settings)
    except NoForecastError as error:
        if settings.trainer.auto_batch:
            raise
        log.warning("%s: the run starts without a plan", error)
        return settings, None
    if settings.trainer.auto_batch:
        size = planner.largest_micro_batch(budget)
        if size is None:
            raise UserError(f"trainer.auto_batch=true: not even one sample is predicted to fit into {budget:g} GiB")
        log.info("trainer.auto_batch: micro-batches of %d", size)
        settings = _with_trainer(settings, micro_batch_size=size)
    if settings.trainer.checkpoint_layers == AUTO:
        layers = planner.fewest_checkpointed_layers(settings, budget)
        if layers is not None:
            log.info("trainer.checkpoint_layers: %d", layers)
            settings = _with_trainer(settings, checkpoint_layers=layers)
    planner.settings = settings
    plan = planner.plan(budget)
    log.info("%s", plan.sentence)
    if settings.trainer.compile:
        log.info("trainer.compile=true is not modelled: the plan is that of the same training without it")
    if plan.verdict == "does not fit":
        raise UserError(
            f"{plan.sentence}. {plan.advice} For a larger card set memory.budget_gib, to try it all the same memory=off"
        )
    return settings, plan


class Planner:
    """Predicts the memory of variants of one run; models that several of them share are built once.

    Args:
        settings: of the run. `memory.cache_dir` keeps what was predicted.
        on_cpu: predicts for a CPU, where a prediction can be compared with what the profiler sees.
    """

    def __init__(self, settings: Settings, *, on_cpu: bool = False) -> None:
        self.settings, self.on_cpu = settings, on_cpu
        self._models: dict[str, PeftModel] = {}
        self._generations: dict[str, Recording] = {}

    def plan(self, budget_gib: float) -> Plan:
        """The forecast for a card, with what fits instead."""
        forecast = self.forecast(self.settings)
        fits = forecast.verdict(budget_gib) == "fits"
        return Plan(forecast, budget_gib, () if fits else tuple(self._nearest(budget_gib)))

    def largest_micro_batch(self, budget_gib: float) -> int | None:
        """The largest micro-batch, a power of two up to the effective batch, that is predicted to fit."""
        fitting = None
        for size in (2**power for power in range(self.settings.trainer.effective_batch_size.bit_length())):
            if self.forecast(_with_trainer(self.settings, micro_batch_size=size)).verdict(budget_gib) != "fits":
                break
            fitting = size
        return fitting

    def fewest_checkpointed_layers(self, settings: Settings, budget_gib: float) -> int | None:
        """The fewest decoder layers that must be checkpointed to fit; None where not even all of them suffice.

        Found by bisection, since every layer that is not checkpointed keeps more.
        """
        from xrayexp.adapters.attach import base_model
        from xrayexp.models.loading import decoder_layers

        def fits(layers: int) -> bool:
            variant = _with_trainer(settings, checkpoint_layers=layers)
            return self.forecast(variant).verdict(budget_gib) == "fits"

        few, enough = -1, len(decoder_layers(base_model(self._model(settings))))
        if not fits(enough):
            return None
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if fits(middle) else (middle, enough)
        return enough

    def forecast(self, settings: Settings) -> Forecast:
        """What a variant needs; from the cache where it was predicted before.

        Raises:
            NoForecastError: its adapter cannot be traced.
        """
        kept = self._kept_file(settings)
        if kept is not None and kept.exists():
            return Forecast.from_json(json.loads(kept.read_text(encoding="utf-8")))
        try:
            forecast = self._trace(settings)
        except (NotImplementedError, RuntimeError) as error:  # what torch raises on the meta device
            reason = str(error).partition(". ")[0].partition("\n")[0]
            raise NoForecastError(
                f"the memory of adapter={settings.adapter.name} cannot be predicted, for its code needs the numbers in "
                f"the weights ({reason})"
            ) from error
        if kept is not None:
            _keep(kept, forecast)
        return forecast

    def _nearest(self, budget_gib: float) -> Iterator[Change]:
        """One setting lowered until it fits, for each of those that can be; of batches the one that is too large."""
        from xrayexp.memory.step import EMBEDDINGS, WEIGHTS

        now = self.forecast(self.settings)
        if now.rules_out((WEIGHTS, EMBEDDINGS), budget_gib):
            return
        alone = {
            "micro_batch_size": replace(now, generation=now.training),
            "eval_batch_size": replace(now, training=now.generation),
        }
        batches = [partial(_smaller_batches, name) for name, one in alone.items() if one.verdict(budget_gib) != "fits"]
        lowered: list[Callable[[Settings], Iterator[tuple[str, Settings]]]] = [*batches, _lower_ranks, _shorter_samples]
        for steps in lowered:
            for override, variant in steps(self.settings):
                forecast = self.forecast(variant)
                if forecast.verdict(budget_gib) == "fits":
                    yield Change((override,), forecast)
                    break

    def _trace(self, settings: Settings) -> Forecast:
        constants = Constants(0.0, 0.0, ()) if self.on_cpu else Constants.read()
        expandable = segments_grow(settings.memory.expandable_segments)
        model = self._model(settings)
        training, generation = (
            Peak.of(recording, constants, expandable_segments=expandable)
            for recording in (self._training(model, settings), self._generation(model, settings))
        )
        return Forecast(training, generation, constants.context_gib, constants.calibrated_on)

    def _training(self, model: PeftModel, settings: Settings) -> Recording:
        from xrayexp.memory.optimizer_state import state_bytes
        from xrayexp.memory.step import trace_step

        _set_checkpointing(model, settings.trainer)
        return trace_step(
            model,
            _shape(model, settings),
            autocast=_autocast(settings),
            state_bytes=state_bytes(model, settings.optimizer()),
            device=self._device,
        )

    def _generation(self, model: PeftModel, settings: Settings) -> Recording:
        """A round of validation, between two steps; the same for all that differ in the training step alone."""
        from xrayexp.memory.optimizer_state import state_bytes
        from xrayexp.memory.step import trace_generation

        new, samples = settings.model.max_new_tokens, settings.trainer.eval_batch_size
        prompt = max(int(model.config.mm_tokens_per_image) + 1, settings.model.max_length - new)
        key = _digest([*_model_facts(settings), settings.cfg["optimizer"], samples, prompt, new])
        if key not in self._generations:
            states = state_bytes(model, settings.optimizer())
            self._generations[key] = trace_generation(
                model, samples, prompt, new, autocast=_autocast(settings), state_bytes=states, device=self._device
            )
        return self._generations[key]

    @property
    def _device(self) -> Device:
        from xrayexp.memory.device_semantics import CPU, CUDA

        return CPU if self.on_cpu else CUDA

    def _model(self, settings: Settings) -> PeftModel:
        key = _digest(_model_facts(settings))
        if key not in self._models:
            # One at a time: each is half a gigabyte of Python objects.
            self._models = {key: _build(settings, self._device)}
        return self._models[key]

    def _kept_file(self, settings: Settings) -> Path | None:
        from xrayexp.models.skeleton import load_config

        folder = settings.memory.cache_dir
        if folder is None:
            return None
        trainer = settings.trainer
        facts = [
            *_model_facts(settings),
            settings.model.max_length, settings.model.max_new_tokens,
            settings.memory.supervised_tokens, segments_grow(settings.memory.expandable_segments),
            settings.cfg["optimizer"],
            trainer.micro_batch_size, trainer.effective_batch_size, trainer.eval_batch_size, trainer.loss_chunk,
            trainer.gradient_checkpointing, trainer.checkpointed_layers, trainer.feature_cache,
            Constants.read().__dict__,
            load_config(settings.model.pretrained, settings.model.architecture).to_json_string(),
            _traced_code(),
        ]  # fmt: skip
        facts += [version(name) for name in TRACED] + ["on a CPU"] * self.on_cpu
        return Path(folder).expanduser() / "plans" / f"{_digest(facts)}.json"


def _keep(path: Path, forecast: Forecast) -> None:
    try:
        with replaced(path) as temporary:
            temporary.write_text(json.dumps(forecast.to_json(), indent=1), encoding="utf-8")
    except OSError as error:
        log.warning("the memory plan could not be kept for the next run (%s): set memory.cache_dir", error)


def _model_facts(settings: Settings) -> list[Any]:
    """What decides the skeleton: not the size of batches, nor what is computed again."""
    model = settings.model
    return [
        model.pretrained, model.architecture, model.attention,
        settings.quantization.config, settings.adapter.__dict__, settings.trainer.precision,
    ]  # fmt: skip


def _shape(model: PeftModel, settings: Settings) -> StepShape:
    """The last micro-batch of a step, of the longest samples."""
    from xrayexp.adapters.attach import base_model
    from xrayexp.memory.step import StepShape
    from xrayexp.models.image_features import features_are_fixed

    trainer, tokens = settings.trainer, settings.model.max_length
    samples = min(trainer.micro_batch_size, trainer.effective_batch_size)
    kept = trainer.feature_cache != "none" and features_are_fixed(base_model(model))
    return StepShape(
        samples=samples,
        tokens=tokens,
        supervised=settings.memory.supervised_tokens or max(1, tokens - int(model.config.mm_tokens_per_image)),
        accumulates=trainer.effective_batch_size > trainer.micro_batch_size,
        chunk=trainer.loss_chunk,
        features=trainer.effective_batch_size - samples if kept else None,
    )


def _autocast(settings: Settings) -> torch.dtype | None:
    return settings.trainer.dtype if settings.trainer.precision.endswith("mixed") else None


def _set_checkpointing(model: PeftModel, trainer: TrainerSection) -> None:
    from xrayexp.adapters.attach import base_model
    from xrayexp.models.loading import disable_gradient_checkpointing, enable_gradient_checkpointing

    if trainer.gradient_checkpointing:
        enable_gradient_checkpointing(base_model(model), trainer.checkpointed_layers)
    else:
        disable_gradient_checkpointing(base_model(model))


def _traced_code() -> str:
    """A digest of what of this package is traced, or traces."""
    package = Path(__file__).parent
    sources = [path for room in ("adapters", "memory", "models") for path in sorted((package / room).rglob("*.py"))]
    digest = blake2b(digest_size=8)
    for path in [*sources, package / "training" / "loss.py", Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest(facts: list[Any]) -> str:
    return blake2b(json.dumps(facts, default=str).encode(), digest_size=8).hexdigest()


def _build(settings: Settings, device: Device) -> PeftModel:
    from xrayexp.adapters.attach import attach_adapter
    from xrayexp.memory.step import as_on
    from xrayexp.models.skeleton import load_config, skeleton

    config = load_config(settings.model.pretrained, settings.model.architecture)
    base = skeleton(
        config,
        quantization=settings.quantization_config(),
        dtype=settings.trainer.dtype,
        attention=settings.model.attention,
    )
    with as_on(device):
        model = attach_adapter(base, settings.adapter, total_steps=MANY_STEPS)
    return model.train()


def _with_trainer(settings: Settings, **changed: Any) -> Settings:
    """Also in what the run folder will say that the run was made with."""
    cfg = {**settings.cfg, "trainer": {**settings.cfg["trainer"], **changed}}
    return replace(settings, cfg=cfg, trainer=replace(settings.trainer, **changed))


def _smaller_batches(name: str, settings: Settings) -> Iterator[tuple[str, Settings]]:
    size = getattr(settings.trainer, name)
    while size > 1:
        size = -(-size // 2)
        yield f"trainer.{name}={size}", _with_trainer(settings, **{name: size})


def _lower_ranks(settings: Settings) -> Iterator[tuple[str, Settings]]:
    rank = settings.adapter.r
    while rank > 1:
        rank //= 2
        peft = {**settings.adapter.peft, **({"r": rank} if "r" in settings.adapter.peft else {})}
        yield f"adapter.r={rank}", replace(settings, adapter=replace(settings.adapter, r=rank, peft=peft))


def _shorter_samples(settings: Settings) -> Iterator[tuple[str, Settings]]:
    length = settings.model.max_length
    while length - 128 >= 2 * FEWEST_TOKENS:
        length -= 128
        yield f"model.max_length={length}", replace(settings, model=replace(settings.model, max_length=length))
