"""What reaches the training step, read from its batches: the curriculum's order, the augmentation, the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from xrayexp.data.difficulty import difficulties

Build = Callable[..., Any]

QUICK = ("quantization=none", "trainer.max_steps=24", "trainer.micro_batch_size=8")  # 64 images: three epochs


class Steps(L.Callback):
    """The batches that reached `training_step`, and what was logged of them."""

    def __init__(self) -> None:
        self.images: list[list[str]] = []
        self.pixels: list[torch.Tensor] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.images.append([sample.example.image_id for sample in args[1].samples])
        self.pixels.append(torch.stack([sample.pixels for sample in args[1].samples]))
        metrics = trainer.callback_metrics
        self.logged.append({name: float(value) for name, value in metrics.items() if name.startswith("curriculum/")})


def trained(build: Build, *overrides: str) -> tuple[Steps, Any]:
    steps, parts = Steps(), build(*QUICK, *overrides)
    parts.fit(steps)
    return steps, parts


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name, sign", [("easy_to_hard", 1), ("hard_first", -1)])
def test_sorted_curricula_arrive_sorted(build: Build, name: str, sign: int, workers: int) -> None:
    steps, parts = trained(build, f"curriculum={name}", f"data.num_workers={workers}")
    examples = parts.data.splits["train"]
    hardness = difficulties(examples, parts.settings.curriculum.difficulty)
    of = {example.image_id: value for example, value in zip(examples, hardness, strict=True)}
    for epoch in range(3):
        seen = [of[image] for batch in steps.images[8 * epoch : 8 * epoch + 8] for image in batch]
        assert len(seen) == 64
        assert (np.diff(seen) * sign >= 0).all()
    assert set(Counter(image for batch in steps.images for image in batch).values()) == {3}


def test_a_paced_run_opens_and_is_logged(build: Build) -> None:
    steps, parts = trained(build, "curriculum=paced")
    assert {image for batch in steps.images for image in batch} == {e.image_id for e in parts.data.splits["train"]}
    shares = [row["curriculum/open_share"] for row in steps.logged]
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] == 1.0
    assert steps.logged[-1]["curriculum/seen_share"] == 1.0
    difficulty = [row["curriculum/difficulty"] for row in steps.logged]
    assert np.mean(difficulty[:5]) < np.mean(difficulty[-8:])
    visits = Counter(image for batch in steps.images for image in batch)
    assert steps.logged[-1]["curriculum/most_visits"] == max(visits.values())
    of = {e.image_id: n for e, n in zip(parts.data.splits["train"], parts.data.visits, strict=True)}
    assert of == visits


def test_without_a_curriculum_nothing_is_logged_of_it(build: Build) -> None:
    steps, _ = trained(build, "trainer.max_steps=2")
    assert steps.logged == [{}, {}]


def test_augmentation_changes_pixels_each_epoch_and_not_with_the_workers(build: Build) -> None:
    plain, _ = trained(build)
    alone, _ = trained(build, "augmentation=cxr")
    helped, _ = trained(build, "augmentation=cxr", "data.num_workers=2", "data.threads=3", "data.cache=none")
    assert alone.images == plain.images == helped.images
    assert all(torch.equal(one, other) for one, other in zip(alone.pixels, helped.pixels, strict=True))
    changed = [not torch.equal(one, other) for one, other in zip(alone.pixels, plain.pixels, strict=True)]
    assert all(changed)
    views: dict[str, set[bytes]] = {}
    for images, pixels in zip(alone.images, alone.pixels, strict=True):
        for image, view in zip(images, pixels, strict=True):
            views.setdefault(image, set()).add(view.numpy().tobytes())
    assert np.mean([len(found) for found in views.values()]) > 2.5  # of three epochs


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader", "predict_dataloader"])
def test_evaluation_is_not_augmented(build: Build, loader: str) -> None:
    plain, changed = build(*QUICK), build(*QUICK, "augmentation=cxr")
    for one, other in zip(getattr(plain.data, loader)(), getattr(changed.data, loader)(), strict=True):
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(one.samples, other.samples, strict=True))
