"""Both trainers are given the same: the half without TRL always, the other where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.results import Values
from experiments.speed_vs_trl import ours, theirs
from experiments.speed_vs_trl.meter import Meter
from experiments.speed_vs_trl.run import GEMMA, OURS, QUICK, TASKS, TINY, TRL, TRL32, claims
from experiments.speed_vs_trl.task import Task, base, draw_images
from xrayexp.models.loading import load_model
from xrayexp.run_data import data_module
from xrayexp.settings import Settings

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed")


def test_this_trainers_half(tmp_path: Path) -> None:
    found = ours.measure(QUICK[GEMMA], tmp_path)
    assert set(found) == {"images", "cpu", "wall", "mib", "loss"}
    assert found["images"] == 2
    assert found["cpu"] > 0
    assert found["mib"] > 1
    assert 1 < found["loss"] < 20
    assert (tmp_path / "ours" / "checkpoints" / "last").exists(), "as python train.py runs it"


def test_a_widened_model_says_the_same(tmp_path: Path) -> None:
    models: list[Any] = [
        load_model(base(words, tmp_path), quantization=None, dtype=torch.float32, device=torch.device("cpu"))
        for words in (None, 2_000)
    ]
    assert models[1].get_output_embeddings().weight is models[1].get_input_embeddings().weight
    ids = torch.arange(6)[None]
    narrow, wide = (model(input_ids=ids).logits for model in models)
    assert wide.shape[-1] == 2_000
    torch.testing.assert_close(wide[..., : narrow.shape[-1]], narrow)


def test_trl_gets_the_tokens_and_pictures_of_this_trainer(tmp_path: Path) -> None:
    read = Settings.from_config(Task.of(QUICK[TINY], tmp_path).config(tmp_path))
    data = data_module(read, None)
    processor: Any = data.encoder.processor
    given = theirs.samples_of(data, draw_images(read, data))
    taken = [sample for batch in data.train_dataloader() for sample in batch.samples]
    assert len(given) == len(taken) == 8
    for its, own in zip(given, taken, strict=True):
        prompt = processor(text=[its["prompt"]], images=[its["images"]], add_special_tokens=False, return_tensors="pt")
        completion = processor.tokenizer(its["completion"], add_special_tokens=False)["input_ids"]
        assert [*prompt["input_ids"][0].tolist(), *completion] == own.input_ids.tolist()
        assert completion == own.labels[own.labels >= 0].tolist()
        torch.testing.assert_close(prompt["pixel_values"][0], own.pixel_values)


@needs_trl
@pytest.mark.slow
def test_both_train_alike(tmp_path: Path) -> None:
    settings = QUICK[TINY] | {"steps": 4}
    own, its = (measure(settings, tmp_path) for measure in (ours.measure, theirs.measure_float32))
    assert own["loss"] == pytest.approx(its["loss"], abs=1e-4)


def test_the_meter_leaves_out_the_first_steps() -> None:
    meter = Meter(unmeasured=2, samples=5)
    meter.before_training()
    meter.after_step(1)
    assert sum(range(5_000_000)) > 0  # 0.1 s
    kept = bytearray(b"x") * (30 * 2**20)
    meter.after_step(2)
    meter.after_step(3)
    meter.after_training(1.5)
    assert len(kept) == 30 * 2**20
    assert meter.values["images"] == 5
    assert meter.values["loss"] == 1.5
    assert meter.values["cpu"] < 0.05
    assert 29 < meter.values["mib"] < 60


def test_claims_are_medians_of_pairs() -> None:
    def row(task: str, factor: float) -> Values:
        own = {"images": 60, "cpu": 1.0, "wall": 2.0, "mib": 50.0, "loss": 2.0}
        arms = {OURS: own, TRL: own | {"cpu": factor, "mib": 100.0}, TRL32: own | {"mib": 62.5, "loss": 2.0002}}
        return {"task": task, "arms": arms}

    rows = {f"{task} {factor}": row(task, factor) for task in TASKS for factor in (1.0, 3.0, 9.0)}
    speed, long, memory, loss = claims(rows)
    assert (speed.value, long.value, memory.value) == (3.0, 3.0, 0.8)
    assert loss.value == pytest.approx(0.0002)
    assert [claim.holds for claim in (speed, long, memory, loss)] == [True, False, True, True]
