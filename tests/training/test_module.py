"""Training: the same however a batch is cut, dropout by step alone, and a stop when numbers end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from xrayexp.data.collate import PixelScale, ReportEncoder
from xrayexp.errors import UserError
from xrayexp.training.callbacks import BestAdapter
from xrayexp.training.module import NonFiniteLossError, _step_seed

Build = Callable[..., Any]

EXACT = ("quantization=none", "adapter.dropout=0.0")
BRIEF = ("model.max_new_tokens=4", "data.max_images.validation=4")
DROPOUT = ("adapter.dropout=0.5", "trainer.max_steps=4")


class Losses(L.Callback):
    """What every step reported, and what it trained on."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.images: list[list[str]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.norms.append(float(trainer.callback_metrics["train/grad_norm"]))
        self.images.append([sample.example.image_id for sample in args[1].samples])


def trainable(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of everything that is trained."""
    return {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}


def trainable_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def trained(build: Build, *overrides: str, validate: bool = False) -> tuple[Losses, dict[str, torch.Tensor]]:
    """The losses of a run and the adapter that it ends with."""
    parts, losses = build(*overrides), Losses()
    parts.fit(losses, validate=validate)
    return losses, trainable(parts.module)


def test_the_effective_batch_is_what_counts(build: Build) -> None:
    """8 x 1, 4 x 2 and 2 x 4 samples are one step each: the same loss, the same gradient, the same adapter."""
    runs = [trained(build, *EXACT, "trainer.max_steps=20", f"trainer.micro_batch_size={size}") for size in (1, 2, 4)]
    (first, adapter), *others = runs
    assert len(first.losses) == 20
    assert first.losses[-1] < 0.8 * first.losses[0]
    for losses, other in others:
        assert losses.images == first.images
        assert losses.losses == pytest.approx(first.losses, abs=1e-5)
        assert losses.norms == pytest.approx(first.norms, abs=1e-4)
        for name, values in adapter.items():
            torch.testing.assert_close(other[name], values, rtol=0, atol=2e-4)  # Adam divides by small numbers


def test_the_loss_is_the_mean_over_tokens_and_not_over_micro_batches(build: Build) -> None:
    """A last piece of another size weighs as much as its tokens."""
    whole, ragged = (
        trained(build, *EXACT, "trainer.max_steps=1", f"trainer.micro_batch_size={size}")[0] for size in (8, 5)
    )
    assert ragged.losses == pytest.approx(whole.losses, abs=1e-5)
    assert ragged.norms == pytest.approx(whole.norms, abs=1e-4)


def test_every_epoch_trains_on_every_sample(build: Build) -> None:
    losses, _ = trained(build, "trainer.max_steps=8", "data.max_images.train=30")  # 4 batches, the last of 6
    epochs = [[image for batch in losses.images[start : start + 4] for image in batch] for start in (0, 4)]
    assert [len(set(epoch)) for epoch in epochs] == [30, 30]
    assert set(epochs[0]) == set(epochs[1])
    assert epochs[0] != epochs[1]


def test_dropout_depends_on_the_step_and_not_on_what_ran_before(build: Build) -> None:
    quiet, adapter = trained(build, *DROPOUT)
    validated, same = trained(build, *DROPOUT, "trainer.validate_every=1", *BRIEF, validate=True)
    assert validated.losses == quiet.losses
    assert all(torch.equal(adapter[name], same[name]) for name in adapter)


def test_dropout_differs_between_steps_and_between_seeds(build: Build) -> None:
    """Weights that hardly move, and one batch again and again: what differs is dropout."""

    def losses(dropout: float, seed: int) -> list[float]:
        one_batch = ("data.max_images.train=8", "optimizer.lr=1e-30", "trainer.max_steps=3")
        parts, recorder = build(f"adapter.dropout={dropout}", *one_batch), Losses()
        parts.module.seed = seed
        generator = torch.Generator().manual_seed(0)
        for parameter in trainable_parameters(parts.module):  # one of LoRA's matrices is zero at first
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
        parts.fit(recorder)
        return recorder.losses

    still, moving, other = losses(0.0, 0), losses(0.5, 0), losses(0.5, 1)
    assert max(still) - min(still) < 1e-5
    assert len({round(loss, 4) for loss in moving}) == 3
    assert all(abs(a - b) > 1e-4 for a, b in zip(moving, other, strict=True))


def test_training_is_repeatable(build: Build) -> None:
    first, second = (trained(build, *DROPOUT) for _ in range(2))
    assert first[0].losses == second[0].losses
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_the_gradient_is_clipped(build: Build) -> None:
    """The norm in the log is that before clipping; Adam hides the scale, so the gradients are looked at."""

    class Norms(L.Callback):
        def __init__(self) -> None:
            self.norms: list[float] = []

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
            gradients = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
            self.norms.append(float(torch.stack(gradients).norm()))

    for limit, expected in (("0.01", 0.01), ("null", None)):
        parts, norms, losses = build(f"trainer.gradient_clip={limit}"), Norms(), Losses()
        parts.fit(norms, losses)
        assert norms.norms == pytest.approx([expected or norm for norm in losses.norms], rel=1e-3)
        assert min(losses.norms) > 0.01


def test_a_frozen_vision_tower_is_neither_trained_nor_backpropagated(build: Build) -> None:
    parts = build("adapter.target=language", "trainer.max_steps=20", "trainer.effective_batch_size=16")
    tower = next(m for n, m in parts.module.named_modules() if n.endswith("vision_tower"))
    required: set[bool] = set()
    tower.register_forward_hook(lambda module, args, out: required.add(out.last_hidden_state.requires_grad))
    before = {name: p.detach().clone() for name, p in tower.named_parameters()}
    losses = Losses()
    parts.fit(losses)
    assert required == {False}
    assert all("language_model" in name for name in trainable(parts.module))
    assert all(torch.equal(p, before[name]) for name, p in tower.named_parameters())
    assert np.mean(losses.losses[-3:]) < 0.8 * losses.losses[0]


class BrokenImage(ReportEncoder):
    """One image of the data set is not a number."""

    broken: str | None = None

    def encode(self, example: Any, image: np.ndarray, *, supervised: bool) -> Any:
        sample = super().encode(example, image, supervised=supervised)
        if example.image_id == self.broken:
            return replace(sample, scale=PixelScale((float("nan"),) * 3, (1.0,) * 3))
        return sample


def test_a_broken_image_is_named(build: Build) -> None:
    parts = build("trainer.micro_batch_size=2", encoder_kind=BrokenImage)
    batch = parts.data.sampler.plan(0)[1]
    parts.data.encoder.broken = broken = parts.data.splits["train"][batch[3].sample].image_id
    steps = Losses()
    with pytest.raises(NonFiniteLossError) as caught:
        parts.fit(steps)
    message = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert len(steps.losses) == 1
    assert "step 1" in message
    assert broken in message
    everyone = [parts.data.splits["train"][draw.sample].image_id for draw in batch]
    assert sum(image_id in message for image_id in everyone) == 2  # its own micro-batch, nobody else
    assert all(p.isfinite().all() for p in trainable(parts.module).values())


class Poison(L.Callback):
    """Makes a weight infinite before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if trainer.global_step == self.step:
            parameter = trainable_parameters(pl_module)[0]
            parameter.data[0, 0] = float("inf")


def test_divergence_stops_the_run_and_leaves_the_saved_adapter(build: Build, tmp_path: Path) -> None:
    parts = build("trainer.max_steps=6", "trainer.validate_every=2", *BRIEF)
    with pytest.raises(NonFiniteLossError, match="step 3"):
        parts.fit(BestAdapter(tmp_path, parts.settings.trainer.monitor), Poison(3), validate=True)
    assert [folder.name for folder in tmp_path.iterdir()] == ["best"]
    saved = load_file(tmp_path / "best" / "adapter_model.safetensors")
    assert saved
    assert all(values.isfinite().all() for values in saved.values())


def test_a_gradient_that_is_not_finite_stops_the_run_too(build: Build) -> None:
    """Else it would spoil the weights, and the next step would blame samples that are innocent."""
    parts = build("trainer.max_steps=3")
    parameter = trainable_parameters(parts.module)[0]
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteLossError, match="step 0"):
        parts.fit()
    assert all(p.isfinite().all() for p in trainable(parts.module).values())


def test_dropout_is_seeded_as_torch_does_it(build: Build) -> None:
    module = build().module
    module._seed_dropout()
    drawn = torch.rand(3)
    torch.manual_seed(_step_seed(module.seed, 0))
    assert torch.equal(torch.rand(3), drawn)
