"""The experiment on a 12 GB card: its settings, its path without a GPU, its claims, and the fit of the constants."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.gpu_12gb import run as program
from experiments.gpu_12gb import training
from experiments.gpu_12gb.card import Card, used_by_others_gib
from experiments.gpu_12gb.fit import fit
from experiments.gpu_12gb.operations import operations, peak_tflops
from experiments.gpu_12gb.processes import FAILED, NOT_RUN, answer_of
from experiments.gpu_12gb.rows import error
from experiments.gpu_12gb.run import STUDY, Bench
from experiments.gpu_12gb.settings import ADAPTERS, LORA, PROMISED, SETTINGS, Setting, settings_of
from experiments.gpu_12gb.tasks import MEASURED, OUT_OF_MEMORY, TASKS
from experiments.gpu_12gb.training import Training
from experiments.results import Results, Rows, Values
from experiments.study import Options, Place, main, run
from xrayexp.memory import plan as memory_plan
from xrayexp.memory.measure import GIB
from xrayexp.memory.plan import Constants
from xrayexp.planning import Planner
from xrayexp.training.loss import supervised_loss_sum

WITHIN = 0.03  # of what torch's profiler sees on the CPU
CARD = "NVIDIA H100 80GB HBM3"


def in_this_process(task: str, job: Values, deadline: float) -> Values:
    return TASKS[task](job)


def test_the_settings_are_those_that_were_asked_for() -> None:
    assert len({setting.key for setting in SETTINGS}) == 12
    assert {setting.method for setting in SETTINGS} == set(ADAPTERS)
    assert {setting.samples for setting in SETTINGS} == {1, 2, 4}
    assert {setting.tokens for setting in SETTINGS} == {512, 1024}
    assert {(setting.checkpointing, setting.vision) for setting in SETTINGS} >= {(True, True), (False, False)}
    assert PROMISED in SETTINGS


def test_what_runs_out_of_memory_is_recorded_and_the_next_one_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, real = Bench("cpu", "tiny"), supervised_loss_sum
    rows = [row for row in bench.plan(False) if row.settings["setting"]["method"] == LORA][:2]
    bench._planned[:] = rows

    def of_a_small_card(model: Any, inputs: Any, labels: torch.Tensor, chunk: int | None) -> torch.Tensor:
        if len(labels) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(model, inputs, labels, chunk)

    monkeypatch.setattr(training, "supervised_loss_sum", of_a_small_card)
    monkeypatch.setattr(program, "answer_of", in_this_process)
    monkeypatch.setattr(program, "answers_of", lambda task, jobs, deadline: [TASKS[task](job) for job in jobs])
    study = replace(bench.study, plan=lambda quick: rows)
    results = run(study, Place(tmp_path, tmp_path / "work", recorded=False), "test", quick=False, jobs=0)
    first, second = results.values.values()
    assert (first["outcome"], first["reason"]) == (OUT_OF_MEMORY, "CUDA out of memory")
    assert first["predicted"]["verdict"] == "fits"
    assert (second["outcome"], second["device"]) == (MEASURED, "cpu")
    assert abs(error(second)) < WITHIN
    assert second["pace"]["tokens_per_s"] > 0
    assert results.claims == ()  # they are about a GPU
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "No claims are made" in readme
    assert "CUDA out of memory" in readme
    assert (tmp_path / "peaks.png").stat().st_size > 1000


@pytest.mark.slow
def test_every_setting_of_the_tiny_model_takes_what_was_predicted(tmp_path: Path) -> None:
    for row in Bench("cpu", "tiny").plan(False):
        job = row.settings | {"work": str(tmp_path), "steps": 1}
        values = {"predicted": TASKS["forecast"](job)} | TASKS["measure"](job)
        assert abs(error(values)) < WITHIN, row.key


def test_a_process_that_fails_or_is_late_is_recorded() -> None:
    assert answer_of("nonsense", {}, time.monotonic() + 60) == {"outcome": FAILED, "reason": "KeyError: 'nonsense'"}
    assert answer_of("forecast", {}, time.monotonic() - 1)["outcome"] == NOT_RUN
    [row] = Bench("cpu", "tiny").plan(True)
    late = answer_of("measure", row.settings | {"work": "."}, time.monotonic() + 0.3)
    assert late == {"outcome": NOT_RUN, "reason": "stopped when the time was up"}


@pytest.mark.parametrize("target", ["language", "language+vision"])
def test_operations_are_those_that_torch_counts(tmp_path: Path, target: str) -> None:
    overrides = [
        "model=tiny", "quantization=none", "optimizer=adamw", "model.attention=eager", "trainer.loss_chunk=null",
        f"adapter.target={target}", "trainer.micro_batch_size=2",
    ]  # fmt: skip
    made = Training.begin(settings_of(overrides, tmp_path), LORA)
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        made.step()
    # Beyond its scope: the convolution of the patches and the projector. Not torch's: below the first adapter nothing
    # is handed on.
    assert operations(made.model, made.shape) == pytest.approx(counter.get_total_flops() / 2, rel=0.05)


@pytest.mark.parametrize(
    "name, peak",
    [(CARD, 989.0), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA H200", 989.0), ("NVIDIA A100-SXM4-80GB", 312.0),
     ("NVIDIA L4", 121.0), ("NVIDIA L40S", 362.0), ("NVIDIA A10G", None), ("Tesla T4", None), ("cpu", None)],
)  # fmt: skip
def test_peaks_of_cards(name: str, peak: float | None) -> None:
    assert peak_tflops(name) == peak


def test_what_others_use_is_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program_file = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert used_by_others_gib() is None
    for answer, expected in (("512", 0.5), ("[N/A]", None), ("512\n1024", None)):  # which of two is not known
        program_file.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
        program_file.chmod(0o755)
        assert used_by_others_gib() == expected


def test_the_limit_leaves_out_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the numbers of a card of 80 GiB."""
    fractions: list[float] = []
    for name, answer in {
        "synchronize": lambda: None,
        "mem_get_info": lambda device: (74 * GIB, 80 * GIB),
        "memory_reserved": lambda device: 4 * GIB,
        "set_per_process_memory_fraction": lambda fraction, device: fractions.append(fraction),
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(Card, "total_gib", 80.0)
    card = Card(others_gib=0.5)
    assert card.context_gib(paged=GIB) == 0.5
    assert card.limit(12.0, 0.5) == 11.5
    assert fractions == [11.5 / 80]


def measured(traced: float, workspace: float, context: float, assumed: float = 0.04) -> Values:
    """A setting as it is recorded on a GPU: tensors take `traced` and `workspace`."""
    predicted = {"allocated": traced + assumed, "reserved": traced + 1, "verdict": "fits", "context": 0.5,
                 "parts": {"workspaces": assumed}}  # fmt: skip
    peaks = {"allocated": traced + workspace - 0.1, "paged": 0.1, "reserved": traced + 1.2, "context": context,
             "card": traced + 1.3 + context, "room": 11.5}  # fmt: skip
    pace = {"seconds": 1.0, "tokens_per_s": 1000.0, "tflops": 100.0, "share_of_peak": 0.1}
    return {"model": "medgemma15", "on": "cuda", "device": CARD, "outcome": MEASURED, "elapsed": 20.0,
            "predicted": predicted, "measured": peaks, "pace": pace}  # fmt: skip


@pytest.fixture
def rows() -> dict[str, Values]:
    """All settings as a GPU would measure them: workspaces of 0.07 GiB, contexts up to 0.634 GiB."""
    return {
        setting.key: measured(4 + 0.5 * place, 0.07, 0.623 + 0.001 * place) for place, setting in enumerate(SETTINGS)
    }


def held(rows: Rows) -> list[bool]:
    return [claim.holds for claim in STUDY.claims(rows)]


def test_claims_are_made_of_a_gpu_and_can_fail(rows: dict[str, Values]) -> None:
    assert held(rows) == [True, True, True, True]
    assert STUDY.claims(rows | {"other": rows[PROMISED.key] | {"on": "cpu"}}) == []
    assert STUDY.claims(rows | {"other": rows[PROMISED.key] | {"model": "tiny"}}) == []
    first = SETTINGS[0].key
    ran_out = {name: rows[first][name] for name in rows[first] if name != "measured"} | {"outcome": OUT_OF_MEMORY}
    assert held(rows | {first: ran_out}) == [True, True, False, True]
    warned = ran_out | {"predicted": rows[first]["predicted"] | {"verdict": "risky"}}
    assert held(rows | {first: warned}) == [True, True, True, True]
    assert held(rows | {PROMISED.key: warned}) == [True, True, True, False]
    assert held(rows | {first: ran_out | {"outcome": FAILED}}) == [False, True, True, True]
    assert held(rows | {first: measured(4.0, 0.4, 0.6)}) == [True, False, True, True]
    blocks = STUDY.blocks(rows | {first: ran_out | {"reason": "CUDA out of memory"}})
    assert "11 of 12 settings" in blocks["answer"]
    assert first in blocks["answer"]


@pytest.fixture
def results(tmp_path: Path, rows: dict[str, Values]) -> Callable[..., Path]:
    """`results(rows)`: the file of a run that has these."""

    def write(rows: Rows = rows) -> Path:
        file = tmp_path / "results.json"
        content = [{"key": key, "settings": {}, "values": values} for key, values in rows.items()]
        whole = {"experiment": "gpu_12gb", "command": "", "environment": {}, "rows": content, "claims": []}
        file.write_text(json.dumps(whole), encoding="utf-8")
        assert Results.read(file).values == rows
        return file

    return write


def test_fitted_constants_are_those_that_were_measured(
    results: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(["model=tiny", "trainer.accelerator=gpu", "trainer.eval_batch_size=1"], tmp_path)
    monkeypatch.setattr(memory_plan, "CONSTANTS", tmp_path / "constants.json")
    Constants(0.5, 0.04, ()).write(tmp_path / "constants.json")
    assert "estimated, not calibrated on a GPU" in Planner(settings).plan(12.0).sentence
    fit([str(results()), "--to", str(tmp_path / "constants.json")])
    assert Constants.read() == Constants(0.64, 0.07, (CARD,))
    plan = Planner(settings).plan(12.0)
    assert f"calibrated on {CARD}" in plan.sentence
    assert plan.forecast.context_gib == 0.64
    assert "within 0.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, said",
    [
        ({"on": "cpu"}, "of something else"),
        ({"model": "tiny"}, "of something else"),
        ({"measured": None}, "5 settings were measured"),
        (measured(4.0, 0.9, 0.6), "plans stay estimates"),
    ],
)
def test_a_fit_refuses_what_would_mislead(
    results: Callable[..., Path], rows: dict[str, Values], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: Values, said: str,
) -> None:  # fmt: skip
    some = dict([*rows.items()][:6])
    first = next(iter(some))
    with pytest.raises(SystemExit) as exited:
        fit([str(results(some | {first: some[first] | change})), "--to", str(tmp_path / "constants.json")])
    assert exited.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "constants.json").exists()


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_fit_says_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(SystemExit) as exited:
        fit([str(tmp_path / "results.json"), "--to", str(tmp_path / "constants.json")])
    assert exited.value.code == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--device", "cpu"], "only the full-size model on a GPU is recorded here"),
        (["--minutes", "0"], "must be a number above 0"),
        (["--device", "tpu"], "invalid choice"),
    ],
)
def test_the_command_line_is_checked_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as exited:
        main(STUDY, Options(program._add, program._study))
    assert exited.value.code == 2
    assert said in capsys.readouterr().err


def test_a_time_that_is_up_leaves_every_setting_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--device", "cpu", "--minutes", "0.1", "--out", str(tmp_path)]  # less than what is kept for the end
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    main(STUDY, Options(program._add, program._study))
    results = Results.read(tmp_path / "results.json")
    assert [row.key for row in results.rows] == [setting.key for setting in SETTINGS]
    assert {values["outcome"] for values in results.values.values()} == {NOT_RUN}
    assert results.command == "python experiments/gpu_12gb/run.py --device cpu --minutes 0.1"
    assert Setting(LORA, 1, 512).key in (tmp_path / "README.md").read_text(encoding="utf-8")
