"""Every adapter in the training loop: it goes on exactly, and AdaLoRA gives its ranks away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig

from tests.adapters.family import METHODS
from xrayexp.adapters.attach import adapter_parameters
from xrayexp.errors import UserError
from xrayexp.training.checkpoint import AtomicCheckpointIO, ExactCheckpoint

Build = Callable[..., Any]
STEPS = 6
FEW = (
    f"trainer.max_steps={STEPS}",
    "trainer.effective_batch_size=2",
    r"adapter.target='.*layers\.0\..*(_proj|fc1)'",
)


def fit(parts: Any, folder: Path, *, resume: Path | None = None) -> dict[str, torch.Tensor]:
    """Trains with a checkpoint every third step; what the adapter is in the end."""
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=parts.settings.trainer.max_steps,
        callbacks=[ExactCheckpoint(folder, 3, None)],
        plugins=[AtomicCheckpointIO()],
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(parts.module, datamodule=parts.data, ckpt_path=resume, weights_only=True)
    return {name: p.detach().clone() for name, p in adapter_parameters(parts.module.model).items()}


# Those that keep something beside what is trained; the others differ from LoRA in their layers alone.
QUICK = {"adalora", "lora_fa", "vera"}


@pytest.mark.parametrize("method", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in METHODS])
def test_it_goes_on_exactly(build: Build, compose: Callable[..., DictConfig], tmp_path: Path, method: str) -> None:
    """Six steps, and three more from the checkpoint after three, in another model: no digit differs."""
    quantization = "nf4" if compose(f"adapter={method}").adapter.quantized_base else "none"
    chosen = (*FEW, f"adapter={method}", f"quantization={quantization}")
    whole = fit(build(*chosen), tmp_path)
    again = build(*chosen)
    with torch.no_grad():  # another beginning, which the checkpoint must overwrite: frozen parts too
        for parameter in adapter_parameters(again.module.model).values():
            parameter.add_(1.0)
    resumed = fit(again, tmp_path / "again", resume=tmp_path / "step-00000003.ckpt")
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def ranks(module: Any) -> list[int]:
    """Ranks that are left, by layer."""
    return [int((p != 0).sum()) for n, p in module.model.named_parameters() if "lora_E." in n]


def test_adalora_ends_with_half_of_its_ranks(build: Build, tmp_path: Path) -> None:
    parts = build(*FEW, "adapter=adalora", "adapter.r=4", "trainer.max_steps=8")
    layers = [n for n, _ in parts.module.model.named_parameters() if "lora_E." in n]
    fit(parts, tmp_path)
    left = ranks(parts.module)
    assert sum(left) == 4 * len(layers)
    assert len(set(left)) > 1, "all layers have the same rank: nothing was allocated"
    config = parts.module.model.active_peft_config
    assert (config.total_step, config.tinit, config.tfinal) == (8, 0, 2)
    assert sum(map(sum, config.rank_pattern.values())) == sum(left)


def test_adaloras_matrices_are_pulled_towards_orthogonality(build: Build, tmp_path: Path) -> None:
    def distance(weight: float) -> float:
        parts = build(*FEW, "adapter=adalora", f"adapter.peft.orth_reg_weight={weight}", "trainer.max_steps=3")
        fit(parts, tmp_path / str(weight))
        matrices = [p for n, p in parts.module.model.named_parameters() if "lora_A." in n]
        return sum(float((m @ m.T - torch.eye(len(m))).norm()) for m in matrices)

    assert distance(10.0) < distance(0.0)


def test_adalora_cannot_be_stretched(build: Build, tmp_path: Path) -> None:
    fit(build(*FEW, "adapter=adalora"), tmp_path)
    longer = build(*FEW, "adapter=adalora", "trainer.max_steps=9")
    with pytest.raises(UserError, match=r"made for 6 steps.*now make 9"):
        fit(longer, tmp_path / "longer", resume=tmp_path / "step-00000006.ckpt")
