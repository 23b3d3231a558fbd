"""The LightningModule: one optimiser step per effective batch, and reports generated for evaluation."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import lightning as L
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from xrayexp.adapters.adalora import allocate_ranks, allocation_state, orthogonality, restore_allocation
from xrayexp.adapters.attach import adapter_parameters, base_model
from xrayexp.errors import DataError, UserError
from xrayexp.metrics.collected import CollectedReports
from xrayexp.metrics.samples import per_sample
from xrayexp.metrics.scoring import score
from xrayexp.metrics.structured.form import Form
from xrayexp.metrics.structured.macro import Macro
from xrayexp.metrics.structured.matches import Matches
from xrayexp.metrics.structured.micro import Micro
from xrayexp.training.checkpoint import HEADER, header
from xrayexp.training.config import MONITORS
from xrayexp.training.generation import Generated, generate
from xrayexp.training.loss import supervised_loss_means, supervised_loss_sum

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from xrayexp.data.collate import Batch, ReportEncoder
    from xrayexp.data.datamodule import ReportDataModule
    from xrayexp.metrics.samples import ScoredReport
    from xrayexp.training.config import TrainerSection
    from xrayexp.training.feature_store import FeatureStore
    from xrayexp.training.judging import Judge
    from xrayexp.training.sampling import Sampling

log = logging.getLogger(__name__)

OptimizerFactory: TypeAlias = Callable[[Iterable[torch.nn.Parameter]], Optimizer]
SchedulerFactory: TypeAlias = Callable[[Optimizer, int], LRScheduler]

RUNNING_METRIC = "soft_match so far"
VALIDATION_METRICS = (*(name.removeprefix("val/") for name in MONITORS), "unparseable_rate")


class NonFiniteLossError(UserError):
    """Training diverged or a sample is broken; names the samples of the micro-batches where it showed."""

    def __init__(self, step: int, image_ids: Sequence[str]) -> None:
        super().__init__(
            f"the loss or its gradient is not finite at step {step}, in a batch of {', '.join(image_ids)}. "
            "The adapters saved so far are untouched. Lower optimizer.lr, or look at these images."
        )


class OutOfMemoryError(UserError):
    """One sample, or one optimiser step, is more than the device has room for."""


class ReportModule(L.LightningModule):
    """Trains a vision-language model to write reports, and generates them for validation and test.

    Optimisation is manual: the data loader yields one effective batch, which is cut into micro-batches here. The
    loss is the mean over the supervised tokens of the effective batch, however it is cut, and every hook of
    Lightning falls between optimiser steps.

    Args:
        model: the model with its adapter.
        encoder: the encoder of the data module.
        settings: the trainer's config.
        optimizer: makes the optimiser of the trainable parameters.
        scheduler: makes the schedule of (optimiser, total steps).
        max_new_tokens: limit of a generated report.
        judge: reads the answers of validation and test.
        seed: dropout of a step depends on this and the step alone.
        features: keeps the features of images; None where every micro-batch goes through the vision tower.
        sampling: reports at random beside the one that is scored; None for none.
    """

    def __init__(
        self,
        model: PeftModel | PreTrainedModel,
        encoder: ReportEncoder,
        settings: TrainerSection,
        *,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        max_new_tokens: int,
        judge: Judge,
        seed: int = 0,
        features: FeatureStore | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.encoder, self.settings = model, encoder, settings
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.max_new_tokens, self.judge, self.seed, self.features = max_new_tokens, judge, seed, features
        self.sampling = sampling
        self.micro_batch_size = settings.micro_batch_size
        self.halved: list[tuple[int, int]] = []  # (step, micro-batch size from then on)
        self.collected = CollectedReports()
        self._matched = self._written = 0  # reports of this process: soft matches, and all

    # --- training ---

    def configure_optimizers(self) -> Any:
        assert self.optimizer_factory is not None
        assert self.scheduler_factory is not None
        data: ReportDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        optimizer = self.optimizer_factory([p for p in self.model.parameters() if p.requires_grad])
        total = self.settings.total_steps(data.batches_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler_factory(optimizer, total)}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        data: ReportDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        if not batch.samples:  # every image of it was broken
            data.advance()
            return
        optimizer: Any = self.optimizers()
        loss = self._backward_or_halve(batch, optimizer)
        if self.features is not None:
            self.features.forget()
        norm = self._clip_gradient(batch, optimizer)
        scheduler: Any = self.lr_schedulers()
        rate = scheduler.get_last_lr()[0]
        self._step(optimizer)
        allocate_ranks(self.model, self.global_step)
        scheduler.step()
        data.advance()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        self.log_dict({"train/grad_norm": norm} | data.pace(), batch_size=len(batch))
        if self._is_logged():
            self.log_dict({"train/lr": rate} | self._place(), batch_size=len(batch))

    def _is_logged(self) -> bool:
        """Whether the loggers get a row for this step. Every value takes Lightning half a millisecond."""
        return bool(self.trainer._logger_connector.should_update_logs)

    def _place(self) -> dict[str, float]:
        """Where training stands. Lightning takes "step" as the loggers' step; its own lags one behind `global_step`."""
        data: ReportDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return {"step": float(self.global_step), "epoch": self.global_step / data.batches_per_epoch}

    def _backward_or_halve(self, batch: Batch, optimizer: Any) -> float:
        """Accumulates the gradient; out of memory, from the step's start again with half the micro-batch."""
        while True:
            self._seed_dropout()
            optimizer.zero_grad()
            try:
                return self._backward(batch)
            except torch.OutOfMemoryError as error:
                reason = _first_line(error)
            # Outside of the except clause: the error's traceback holds the activations that have to go.
            optimizer.zero_grad()
            self._halve(reason)

    def _seed_dropout(self) -> None:
        """As `torch.manual_seed`, which on a machine without a GPU formats a traceback every time, for milliseconds."""
        seed = _step_seed(self.seed, self.global_step)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)

    def _halve(self, reason: str) -> None:
        if self.micro_batch_size == 1:
            raise OutOfMemoryError(
                f"out of memory at step {self.global_step} with a single sample at a time ({reason}): lower "
                "model.max_length or adapter.r, set trainer.gradient_checkpointing=true, or use quantization=nf4"
            )
        self.micro_batch_size = math.ceil(self.micro_batch_size / 2)
        self.halved.append((self.global_step, self.micro_batch_size))
        log.warning(
            "out of memory at step %d (%s): the step starts again with micro-batches of %d; the effective batch stays",
            self.global_step, reason, self.micro_batch_size,
        )  # fmt: skip
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _backward(self, batch: Batch) -> float:
        """Accumulates the gradient of the mean loss over the batch's supervised tokens; returns that loss."""
        losses, tokens = [], batch.supervised_tokens
        micro_batches = list(batch.micro_batches(self.micro_batch_size))
        for micro in micro_batches:
            on_device = micro.to(self.device)
            inputs = on_device.inputs if self.features is None else self.features.inputs(on_device)
            loss = supervised_loss_sum(base_model(self.model), inputs, on_device.labels, self.settings.loss_chunk)
            del inputs  # pixels and features of this micro-batch, before the next one's are made
            # Autocast is for forward passes: on a GPU the backward pass has threads of its own, which do not know in
            # which type it is on.
            with torch.autocast(self.device.type, enabled=False):
                self.manual_backward(loss / tokens)
            losses.append(loss.detach() / tokens)
        with torch.autocast(self.device.type, enabled=False):  # bfloat16 cannot tell P^T P from I once they are close
            if (penalty := orthogonality(self.model)) is not None:
                self.manual_backward(penalty)
        values: list[float] = torch.stack(losses).tolist()  # one synchronisation with the device
        bad = [micro for micro, loss in zip(micro_batches, values, strict=True) if not math.isfinite(loss)]
        if bad:
            raise NonFiniteLossError(self.global_step, [s.example.image_id for m in bad for s in m.samples])
        return sum(values)

    def _clip_gradient(self, batch: Batch, optimizer: Any) -> float:
        """Clips the gradient and returns its norm before that; a norm that is not finite would end the adapter."""
        trainable = [p for group in optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(trainable, self.settings.gradient_clip or math.inf))
        if not math.isfinite(norm):
            raise NonFiniteLossError(self.global_step, [s.example.image_id for s in batch.samples])
        return norm

    def _step(self, optimizer: Any) -> None:
        try:
            optimizer.step()
        except torch.OutOfMemoryError as error:
            # Not to be repeated: some parameters may have moved already.
            raise OutOfMemoryError(
                f"out of memory in the optimiser at step {self.global_step} ({_first_line(error)}): lower adapter.r or "
                "trainer.micro_batch_size, or use optimizer=paged_adamw_8bit"
            ) from error

    # --- checkpoints ---

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The adapter, by name; the base model is in no checkpoint."""
        return {f"model.{name}": p.detach() for name, p in adapter_parameters(self.model).items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> None:
        """Puts the adapter's parameters back.

        Raises:
            DataError: the model has another adapter, or one of another shape.
        """
        adapter = self.state_dict()
        shapes, stored = ({name: p.shape for name, p in state.items()} for state in (adapter, state_dict))
        if differing := sorted(name for name in shapes.keys() | stored.keys() if shapes.get(name) != stored.get(name)):
            raise DataError(
                f"the checkpoint is one of another adapter: {len(differing)} tensors differ, such as {differing[0]}"
            )
        for name, parameter in adapter.items():
            parameter.copy_(state_dict[name])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[HEADER] = header() | {
            "asked_micro_batch_size": self.settings.micro_batch_size,
            "micro_batch_size": self.micro_batch_size,
            "halved": self.halved,
            "allocation": allocation_state(self.model),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        planned = self.settings.total_steps(self.trainer.datamodule.batches_per_epoch)  # type: ignore[attr-defined]
        for schedule in checkpoint["lr_schedulers"]:
            if schedule.get("total_steps", planned) != planned:
                raise UserError(
                    f"a one-cycle schedule cannot be stretched: it was made for {schedule['total_steps']} steps, and "
                    f"trainer.max_steps or max_epochs now make {planned}"
                )
        stored = checkpoint[HEADER]
        self.halved = stored["halved"]
        if stored["asked_micro_batch_size"] == self.settings.micro_batch_size:  # else the user knows better
            self.micro_batch_size = stored["micro_batch_size"]
        restore_allocation(self.model, stored["allocation"])

    # --- evaluation ---

    def on_validation_epoch_start(self) -> None:
        self._begin_evaluation()

    def on_test_epoch_start(self) -> None:
        self._begin_evaluation()

    def _begin_evaluation(self) -> None:
        self.collected.reset()
        self._matched = self._written = 0

    def scored(self) -> list[ScoredReport]:
        """What was written since the evaluation began, by all processes."""
        return self.collected.reports()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        return {"written": self._write_reports(batch)}  # for SamplePredictions

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        return {"written": self._write_reports(batch)}  # for PredictionWriter

    def _write_reports(self, batch: Batch) -> list[tuple[ScoredReport, Generated]]:
        written: list[tuple[ScoredReport, Generated]] = []
        if not batch.samples:  # every image of it was broken
            return written
        try:
            with _uncompiled() if self.settings.compile else nullcontext():
                inputs = batch.padded().to(self.device)
                answers = generate(self.model, inputs, self.encoder, self.max_new_tokens, self.sampling)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"out of memory while {len(batch)} reports were generated together: lower trainer.eval_batch_size "
                "(batch_size of evaluate.py)"
            ) from error
        for sample, answer in zip(batch.samples, answers, strict=True):
            written.append((self.judge.answered(sample.example, answer), answer))
        self.collected.update(scored for scored, _ in written)
        self._matched += sum(bool(per_sample(scored)["soft_match"]) for scored, _ in written)
        self._written += len(written)
        share = self._matched / self._written
        self.log(
            RUNNING_METRIC, share, prog_bar=True, logger=False, on_step=True, on_epoch=False, batch_size=len(batch)
        )
        return written

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, float | None]:
        """The loss of every image's report, in nats per token, by ImageID; None for an image that is broken."""
        losses: dict[str, float | None] = {image.image_id: None for image in batch.broken}
        if not batch.samples:
            return losses
        together = batch.padded().to(self.device)
        try:
            means = supervised_loss_means(base_model(self.model), together.inputs, together.labels).tolist()
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"out of memory with {len(batch)} samples together: give a smaller --batch-size"
            ) from error
        losses |= {sample.example.image_id: mean for sample, mean in zip(together.samples, means, strict=True)}
        if bad := [name for name, loss in losses.items() if loss is not None and not math.isfinite(loss)]:
            raise DataError(f"the loss of {', '.join(bad)} is not finite: look at the run's adapter and these images")
        return losses

    def on_validation_epoch_end(self) -> None:
        scores = score(self.scored(), [Matches(), Micro(), Macro(), Form()], bootstrap=0)
        self.log_dict({f"val/{name}": scores.headline(name) for name in VALIDATION_METRICS}, prog_bar=True)
        self.log_dict(self._place())


def _uncompiled() -> AbstractContextManager[Any]:
    """Layers as they were written: decoding has other shapes in every step, and no gradient to gain time on."""
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _step_seed(seed: int, step: int) -> int:
    """A seed for one step, so that dropout does not depend on what ran before, validation included."""
    return int(torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step)))
