"""What callbacks add to the log and to the run folder, and that none of them changes what is trained."""

from __future__ import annotations

import base64
import csv
import io
import logging
import re
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig
from PIL import Image
from safetensors.torch import load_file

from xrayexp import pipeline
from xrayexp.errors import ConfigError
from xrayexp.memory import monitor
from xrayexp.memory.monitor import PeakMemory
from xrayexp.settings import Settings
from xrayexp.tracking.examples import ExampleRow
from xrayexp.tracking.summary import plain_text
from xrayexp.training.accuracy_gate import AccuracyGate
from xrayexp.training.sample_page import render_page
from xrayexp.training.throughput import Throughput

Compose = Callable[..., DictConfig]
Build = Callable[..., Any]


@pytest.fixture
def train(compose: Compose, small: Sequence[str]) -> Callable[..., Any]:
    """`train(*overrides)`: a run of 4 steps with 2 validations."""
    steps = ("trainer.max_steps=4", "trainer.validate_every=2", "model.max_new_tokens=8")
    return lambda *overrides: pipeline.train(compose(*small, *steps, *overrides))


def log_rows(folder: Path, column: str) -> list[float]:
    with (folder / "logs" / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


def test_the_default_callbacks_log_and_change_nothing(train: Callable[..., Any]) -> None:
    names = ("early_stopping", "peak_memory", "throughput", "sample_predictions")
    with_all, without = train(), train(*(f"callbacks.{name}=null" for name in names))
    for name, tensor in load_file(with_all.folder / "checkpoints/last/adapter_model.safetensors").items():
        assert torch.equal(tensor, load_file(without.folder / "checkpoints/last/adapter_model.safetensors")[name])
    for column in ("memory/rss_gib", "throughput/samples_per_s", "throughput/supervised_tokens_per_s"):
        rows = log_rows(with_all.folder, column)
        assert len(rows) == 4
        assert all(value > 0 for value in rows)
        assert not log_rows(without.folder, column)
    assert all(0 <= share <= 1 for share in log_rows(with_all.folder, "throughput/waiting_share"))
    assert all(norm > 0 for norm in log_rows(with_all.folder, "train/grad_norm"))
    pages = sorted(path.name for path in (with_all.folder / "samples").iterdir())
    assert pages == ["step-00000002.html", "step-00000004.html"]
    assert not (without.folder / "samples").exists()


def test_throughput_counts_by_the_clock(build: Build) -> None:
    """A clock that moves a second at every look: each step takes one second, and waits one for its data."""
    seconds = count()

    class Logged(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            rows.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    rows: list[dict[str, float]] = []
    parts = build("trainer.max_steps=3")
    trainer = parts.fit(Throughput(clock=lambda: float(next(seconds))), Logged(), log_every=1)
    assert trainer.global_step == 3
    for row in rows:
        assert row["throughput/waiting_share"] == 0.5
        assert row["throughput/samples_per_s"] == 4.0  # 8 samples in 2 seconds


def test_memory_is_warned_about_once(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(monitor, "peak_memory_gib", lambda device: 1e6)
    with caplog.at_level(logging.WARNING, logger="xrayexp"):
        build("trainer.max_steps=3").fit(PeakMemory(warn_at=0.9), log_every=1)
    [message] = caplog.messages
    assert message.startswith("memory/rss_gib is 1000000.0 of ")
    caplog.clear()
    monkeypatch.undo()
    build("trainer.max_steps=1").fit(PeakMemory(warn_at=0.9), log_every=1)
    assert not caplog.messages


def test_the_gate_stops_a_run_that_is_not_good_enough(train: Callable[..., Any]) -> None:
    gate = ("callbacks=gated", "callbacks.accuracy_gate.minimum=1.0", "callbacks.accuracy_gate.after_step=2")
    stopped = train(*gate)
    assert stopped.steps == 2
    assert stopped.not_good.startswith("val/micro_f1 0.000 < 1.0 at step 2")
    assert "not good" in plain_text(stopped)
    marked = train(*gate, "callbacks.accuracy_gate.action=mark")
    assert (marked.steps, marked.not_good[-6:]) == (4, "step 4")
    good = train(*gate, "callbacks.accuracy_gate.minimum=0.0")
    assert (good.steps, good.not_good) == (4, None)
    late = train("callbacks=gated", "callbacks.accuracy_gate.minimum=1.0", "callbacks.accuracy_gate.after_step=5")
    assert late.steps == 4
    assert late.not_good.startswith("val/micro_f1 0.000 < 1.0"), "it ended before it could be stopped"


def test_the_gate_remembers_the_best_score() -> None:
    gate = AccuracyGate("val/micro_f1", 0.5, 10, "mark")
    for score, good in ((float("nan"), False), (0.4, False), (0.6, True), (0.1, True)):
        trainer: Any = SimpleNamespace(global_step=10, callback_metrics={"val/micro_f1": torch.tensor(score)})
        gate.on_validation_end(trainer, L.LightningModule())
        assert (gate.verdict is None) is good
        again = AccuracyGate("val/micro_f1", 0.5, 10, "mark")
        again.load_state_dict(gate.state_dict())
        gate = again


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("minimum", "2.0", "must be a score from 0 to 1, not 2.0"),
        ("after_step", "-1", "must be a whole number of at least 0, not -1"),
        ("action", "shout", "must be one of stop, mark, not 'shout'"),
        ("monitor", "val/x", "must be one of val/exact_match"),
    ],
)
def test_mistakes_about_the_gate_are_named(
    compose: Compose, small: Sequence[str], key: str, value: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"callbacks\.accuracy_gate\.{key} {message}"):
        Settings.from_config(compose(*small, "callbacks=gated", f"callbacks.accuracy_gate.{key}={value}"))


def row(**changes: Any) -> ExampleRow:
    given: dict[str, Any] = {
        "image_id": "one.png", "image": np.full((300, 900), 128, np.uint8), "truth": "FINDINGS:\n- nodule",
        "prediction": "FINDINGS:\n- mass", "missed": ("nodule",), "invented": ("mass",),
    }  # fmt: skip
    return ExampleRow(**given | changes)


def test_a_page_shows_images_and_names_differences() -> None:
    page = render_page("step 250", {"val/micro_f1": 0.5}, [row(), row(missed=(), invented=())])
    assert "missed: nodule" in page
    assert "invented: mass" in page
    assert page.count("the same findings") == 1
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert Image.open(io.BytesIO(base64.b64decode(encoded[0]))).size == (384, 128)


@given(st.text())
def test_no_text_of_the_model_becomes_markup(text: str) -> None:
    plain = render_page("", {}, [row(prediction="", image_id="")])
    page = render_page("", {}, [row(prediction=text, image_id=text)])
    assert (page.count("<"), page.count(">"), page.count('"')) == (plain.count("<"), plain.count(">"), plain.count('"'))
