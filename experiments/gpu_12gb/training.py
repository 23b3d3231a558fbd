"""A training of random weights on random samples: the steps that `python train.py` would take, nothing around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from experiments.gpu_12gb.settings import MICRO_BATCHES, adapters_of
from experiments.random_model import random_model
from xrayexp.adapters.attach import attach_adapter, base_model
from xrayexp.memory.step import StepShape, example_batch
from xrayexp.models.loading import enable_gradient_checkpointing
from xrayexp.models.skeleton import load_config, weight_tensors
from xrayexp.training.loss import supervised_loss_sum

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.optim import Optimizer

    from xrayexp.settings import Settings


@dataclass
class Training:
    """Everything that is there between two steps."""

    model: PeftModel
    optimizer: Optimizer
    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    shape: StepShape
    settings: Settings

    @classmethod
    def begin(cls, settings: Settings, method: str) -> Training:
        """Makes the model on the settings' device.

        Args:
            settings: of `settings_of`.
            method: a key of `ADAPTERS`.
        """
        trainer = settings.trainer
        torch.manual_seed(settings.seed)
        base = random_model(
            load_config(settings.model.pretrained, settings.model.architecture),
            quantization=settings.quantization_config(),
            dtype=trainer.dtype,
            device=trainer.device,
            attention=settings.model.attention,
            seed=settings.seed,
        )
        with adapters_of(method):
            model = attach_adapter(base, settings.adapter)
        if trainer.gradient_checkpointing:
            enable_gradient_checkpointing(base_model(model))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        config: Any = model.config
        shape = StepShape(
            trainer.micro_batch_size,
            settings.model.max_length,
            settings.model.max_length - config.mm_tokens_per_image,
            chunk=trainer.loss_chunk,
        )
        batch = example_batch(base_model(model), shape, trainer.device)
        return cls(model.train(), settings.optimizer()(trained), *batch, shape, settings)

    def step(self) -> float:
        """One step of the optimiser, as ReportModule takes it under Lightning; returns the loss per token."""
        trainer, device = self.settings.trainer, self.settings.trainer.device.type
        tokens = MICRO_BATCHES * self.shape.samples * self.shape.supervised
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        losses = []
        self.optimizer.zero_grad()
        with torch.autocast(device, trainer.dtype, enabled=trainer.precision.endswith("mixed")):
            for _ in range(MICRO_BATCHES):
                loss = supervised_loss_sum(base_model(self.model), self.inputs, self.labels, self.shape.chunk)
                with torch.autocast(device, enabled=False):
                    (loss / tokens).backward()
                losses.append(loss.detach() / tokens)
            mean = float(torch.stack(losses).sum())
            torch.nn.utils.clip_grad_norm_(trained, trainer.gradient_clip or torch.inf)
            self.optimizer.step()
        return mean

    @property
    def paged(self) -> int:
        """Bytes of the optimiser's state that are not torch's, but in memory that CUDA moves to the host and back."""
        return sum(tensor.nbytes for tensor in self._states() if getattr(tensor, "is_paged", False))

    @property
    def standing(self) -> int:
        """Bytes of all tensors that stay from step to step: weights, inputs and the optimiser's state."""
        tensors = [tensor for kind in weight_tensors(self.model).values() for tensor in kind]
        every = [*tensors, *self.inputs.values(), *self._states()]
        return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in every}.values())

    def _states(self) -> Iterator[torch.Tensor]:
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, torch.Tensor))
